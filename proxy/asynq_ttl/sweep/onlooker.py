"""In shadow mode: looks at all that the sweeper would adopt, and tells of it. Changes nothing, so it takes no lock.

It has surveys of its own: the sweeper's are about queues in which this process has enforced a policy before, and in
these it still removes and heals.
"""

from collections.abc import Callable

from asynq_ttl.policy.reach import Reach
from asynq_ttl.sweep.adopter import Adopter
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.part import Part
from asynq_ttl.sweep.schedule import PAGE_SIZE, Looked, Schedule
from asynq_ttl.sweep.surveyor import Surveyor


class Onlooker:
    """Tells what would be adopted.

    Args:
        connections: to Redis.
        reach: returns what is in force at the moment.
        databases: the numbers of the databases that clients have used so far.
        interval_seconds: the longest time between rounds.
        adopter: what looks at a page.
        failures: where refusals are noted.
        part: which queues are looked at.
    """

    def __init__(
        self,
        connections: Connections,
        reach: Callable[[], Reach],
        databases: set[int],
        adopter: Adopter,
        failures: Failures,
        *,
        part: Part,
        interval_seconds: float,
    ) -> None:
        self._connections = connections
        self._reach = reach
        self._adopter = adopter
        self._part = part
        self._failures = failures
        self._schedule = Schedule(interval_seconds)
        self._surveyor = Surveyor(
            connections,
            reach,
            databases,
            self._schedule,
            failures,
            part=part,
            wanted=lambda name: reach().adopts(name),
        )

    async def look(self) -> None:
        """Do one round, if the policy in force only tells.

        Raises:
            RedisError: Redis cannot be reached.
        """
        reach = self._reach()
        if not reach.only_tells:
            return
        await self._part.refresh(await self._connections.home())  # whoever only tells does not sweep
        await self._surveyor.survey()
        self._schedule.begin_round(self._surveyor.large_indexes())
        await self._adopter.look(self._surveyor.known)
        for index, first in self._schedule.patrol_pages(reach.policy):
            looked = Looked(0, kept=0)
            with self._failures.kept_to(*index):
                seen = await self._adopter.page(index, ("rank", first, first + PAGE_SIZE - 1, "", ""))
                looked = Looked(seen.members, kept=seen.members)
            self._schedule.patrol.looked(index, looked)
