"""Lists the queues of each database and surveys them: many in one script, and none more often than is needed.

A queue is swept if `asynq:queues` lists it, or if this process has enforced a policy for it: some producers list
nothing. A sidecar that does not hold the lock knows of the second kind what the holder may not know. So it sweeps these
itself, and only these.

Invariant: what Redis refuses about a database or a queue ends the survey of that one only, and the next round asks
again.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ResponseError

from asynq_ttl.asynq.keys import ambiguous, index_key, text_of
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import TERMINAL, State
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.part import Part
from asynq_ttl.sweep.schedule import Index, Schedule
from asynq_ttl.sweep.survey import PLACES, SMALL, Queue, Survey, pass_seconds

# What Redis says of a database that there is not: a cluster has only one.
_NO_SUCH_DATABASE = ("out of range", "not allowed in cluster mode")


# By so much less are the numbers of indexes of which `survey.lua` tells that they have held tasks.
_HELD = 1_000_000

# So few names are read in every round: a queue that is new is looked at in the next one.
FEW = 1_000


class Surveyor:
    """Keeps a `Survey` up to date.

    Args:
        connections: to Redis.
        reach: returns what is in force at the moment.
        databases: the numbers of those that clients have used. A number that Redis does not have is taken out.
        schedule: how often rounds are, and which retentions a queue has.
        failures: where refusals are noted.
        part: which queues are swept.
        wanted: says whether a queue is surveyed; None for those in which there may be TTLs of ours.

    Attributes:
        known: what the surveys have found.
    """

    def __init__(
        self,
        connections: Connections,
        reach: Callable[[], Reach],
        databases: set[int],
        schedule: Schedule,
        failures: Failures,
        *,
        part: Part,
        wanted: Callable[[str], bool] | None = None,
    ) -> None:
        self._part = part
        self._changes = part.changes
        self._connections = connections
        self._reach = reach
        self._databases = databases
        self._schedule = schedule
        self._failures = failures
        self._wanted = wanted or (lambda name: reach().heals(name))
        self._unlisted_only = False
        self._script = load("shared/hold.prologue", "sweep/survey")
        self.known = Survey()

    def held(self) -> int:
        """Return how many tasks are held, in the queues that are surveyed."""
        return self.known.held

    async def survey(self, *, unlisted_only: bool = False) -> None:
        """List the queues and survey them, where it is time to.

        Args:
            unlisted_only: whether somebody else sweeps what `asynq:queues` lists.
        """
        if (unlisted_only, self._part.changes) != (self._unlisted_only, self._changes):
            self._changes = self._part.changes
            self._unlisted_only, self.known = unlisted_only, Survey()
        if unlisted_only and not self._reach().enforced:
            return
        at = time.monotonic()
        for database in self.known.unlisted(self._databases, at):
            await self._list(database, at)
        policy = self._reach().policy
        alike: dict[tuple[int, tuple[int, ...]], list[Queue]] = defaultdict(list)
        for queue in self.known.stale(at):
            alike[queue.database, self._schedule.retentions(policy, queue.name)].append(queue)
        for (database, retentions), queues in alike.items():
            for first in range(0, len(queues), self._part.batch):
                await self._survey_or_each(database, retentions, queues[first : first + self._part.batch])

    def large_indexes(self) -> dict[Index, int]:
        """Return the indexes that the survey does not look through itself, each with how many members it has."""
        larger = self.known.larger(*(state.value for state in TERMINAL))
        return {Index(*queue, State(place)): members for queue, place, members in larger}

    async def _list(self, database: int, at: float) -> None:
        """Read which queues of a database are swept. Where that is refused, those are that were before."""
        names, within = self.known.names(database), 0.0
        with self._failures.kept_to(database):
            try:
                client = await self._connections.to(database)
                members = await self._part.names(client)
            except ResponseError as error:
                if not any(said in str(error) for said in _NO_SUCH_DATABASE):
                    raise
                # A client asked for a database that there is not.
                self._databases.discard(database)
                await self._connections.drop(database)
                return
            names, within = set(members), self._pass_seconds if len(members) > FEW else 0.0
        reach = self._reach()
        swept = reach.enforced - names if self._unlisted_only else reach.enforced | names
        clear = (name for name in swept if self._part.has(name) and self._wanted(name) and not ambiguous(name))
        self.known.listed(database, clear, at, within)

    async def _survey_or_each(self, database: int, retentions: tuple[int, ...], queues: Sequence[Queue]) -> None:
        """Survey some queues of a database together, or where Redis refuses that, each by itself."""
        if len(queues) > 1:
            try:
                await self._survey(database, retentions, queues)
            except ResponseError:
                pass  # because of one of them, or since a node of a cluster has not all of them
            else:
                return
        for queue in queues:
            with self._failures.kept_to(*queue):
                await self._survey(database, retentions, [queue])

    async def _survey(self, database: int, retentions: tuple[int, ...], queues: Sequence[Queue]) -> None:
        reach = self._reach()
        policy, within = reach.policy, self._pass_seconds
        script = (await self._connections.to(database)).register_script(self._script)
        answer: Any = await script(
            keys=[index_key(queue.name, PLACES[0]) for queue in queues],
            args=[SMALL, policy.grace_seconds * 1000, self._schedule.looks_back_seconds(policy), *retentions],
        )
        at, width = time.monotonic(), 3 * len(PLACES)
        extra = answer[width * len(queues) :]
        untimed: dict[int, dict[str, str]] = defaultdict(dict)
        held: dict[int, dict[str, int]] = defaultdict(dict)
        for key, value in zip(extra[::2], extra[1::2], strict=True):
            number, place = divmod(key if key >= 0 else key + _HELD, len(PLACES))
            if key >= 0:
                untimed[number][PLACES[place]] = text_of(value)
            else:
                held[number][PLACES[place]] = int(value)
        for number, queue in enumerate(queues):
            found = answer[number * width : (number + 1) * width]
            self.known.surveyed(queue, found, at, within, untimed.get(number, {}), held=held.get(number, {}))
            if self.known.holds(queue):
                reach.note_enforced(queue.name)

    @property
    def _pass_seconds(self) -> float:
        policy = self._reach().policy
        return pass_seconds(self._schedule.interval_seconds(policy), policy.grace_seconds)
