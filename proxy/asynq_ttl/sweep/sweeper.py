"""Removes what is due from index and keyspace together, and heals indexes that others left with ghosts.

A key's own TTL is only the backstop: it fires `grace` after the retention is over, even if every sidecar is dead.
Before that, the sweeper removes hash, index entry and uniqueness lock in one script, so that no index ever names a
task that is not there.

What is looked at when is up to `schedule`. This module does it and tells; of a policy it knows what `Reach` says.

Invariants:

* A task is removed only if it is in the index's own state and its TTL is at most `grace`. The grace it was given may
  have been another one, so its index score must not say that its retention is not over. A task without a TTL stays.
* Where the state of a task is another one than its index says, only the entry goes. A state that is not one of Asynq's
  says nothing, so there the entry stays.
* Live tasks keep no TTL that a run past the sidecar has left on them. It comes off while they are active (longest
  active first), pending or waiting for their retry (newest first, in a slow round trip).
* An active ID whose hash is gone and whose lease is over leaves the list.
* Of the sidecars with the same policy, one per Redis sweeps at a time; see `lock`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError, ResponseError

from asynq_ttl.asynq.keys import ambiguous, index_key, task_prefix, text_of
from asynq_ttl.events import SweepObserver, Swept
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Policy, State
from asynq_ttl.sweep.connections import TIMEOUT_SECONDS, Connections
from asynq_ttl.sweep.handover import Handover
from asynq_ttl.sweep.lock import Lock
from asynq_ttl.sweep.schedule import (
    PAGE_SIZE,
    Index,
    Looked,
    Queue,
    Schedule,
    WaitingTasks,
    archive_retentions,
)
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.sweeper")

# A lock outlasts two rounds that fail, and a Redis that does not answer for as long as is waited for it.
_ROUNDS_IN_LOCK = 3
# How long a lease has to be over before its ID counts as nobody's. Asynq's own recoverer waits as long.
LEASE_SLACK_SECONDS = 30
# An entry without a hash is dropped if it still has none after this time.
_SECOND_LOOK_SECONDS = 0.05


class Sweeper:
    """Sweeps the databases and queues that a policy is about.

    Args:
        endpoint: the Redis.
        reach: returns what is in force at the moment.
        databases: the numbers of the databases that clients have used so far; may grow. A number that Redis does not
            have is taken out.
        observer: who is told.
        interval_seconds: the longest time between rounds.
        handover: who gets due tasks before they are removed; None for nobody.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        reach: Callable[[], Reach],
        databases: set[int],
        observer: SweepObserver,
        *,
        interval_seconds: float,
        handover: Handover | None = None,
    ) -> None:
        self._connections = Connections(endpoint)
        self._handover = handover
        self._reach = reach
        self._databases = databases
        self._observer = observer
        self._schedule = Schedule(interval_seconds)
        self._lock = Lock(max(interval_seconds * _ROUNDS_IN_LOCK, TIMEOUT_SECONDS))
        self._index_script = load("shared/states.prologue", "sweep/sweep")
        self._ghost_script = load("sweep/sweep_ghosts")
        self._active_script = load("sweep/sweep_active")
        self._waiting_script = load("sweep/sweep_waiting")

    @property
    def behind(self) -> bool:
        """Whether the last round left due tasks to the next one."""
        return self.leads and self._schedule.due.spent

    @property
    def leads(self) -> bool:
        """Whether this is the sidecar that sweeps."""
        return self._lock.held

    @property
    def interval_seconds(self) -> float:
        """The time between rounds: what was asked for, but so short that the grace has room for some of them."""
        return self._schedule.interval_seconds(self._policy)

    @property
    def _policy(self) -> Policy:
        return self._reach().policy

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._schedule.pause_seconds(self._policy))
            started = time.monotonic()
            problem = ""
            try:
                if not await self._may_sweep():
                    continue
                await self.sweep()
            except (RedisError, OSError) as error:
                problem = str(error) or type(error).__name__
                _log.warning("sweeping failed, the next round tries again: %s", problem)
            self._observer.sweep_ended(time.monotonic() - started, problem)

    async def sweep(self) -> None:
        """Do one round.

        Raises:
            RedisError: Redis refused something or cannot be reached.
        """
        self._schedule.due.begin_round()
        queues = [
            Queue(database, name) for database in sorted(self._databases) for name in await self._queues(database)
        ]
        indexes = [Index(*queue, state) for queue in queues for state in State]
        for index in indexes:
            await self._remove_due(index)
        for index, first in self._schedule.patrol_pages(self._policy, indexes):
            page = await self._sweep_page(index, "rank", first, first + PAGE_SIZE - 1, "", "")
            self._schedule.patrol.looked(index, _looked(page))
        for queue in queues:
            await self._repair_active(queue)
        for place, first in self._schedule.waiting_pages(self._policy, queues):
            self._schedule.waiting.looked(place, await self._repair_waiting(place, first))

    async def close(self) -> None:
        """Give the lock back and close the connections."""
        if self._handover is not None:
            await self._handover.close()
        with suppress(RedisError, OSError):  # it expires by itself
            await self._lock.release(self._connections.home())
        await self._connections.close()

    async def _may_sweep(self) -> bool:
        """Say whether this sidecar has something to sweep, and has the lock for it."""
        reach = self._reach()
        if not reach.sweeps:
            self._lock.let_expire()
            return False
        return await self._lock.take(self._connections.home(), reach.coverage)

    async def _queues(self, database: int) -> list[str]:
        """Return the names of the queues of a database that are swept."""
        try:
            members: Any = await self._connections.to(database).smembers("asynq:queues")
        except ResponseError as error:
            if "out of range" not in str(error):
                raise
            # A client asked for a database that there is not.
            self._databases.discard(database)
            await self._connections.drop(database)
            return []
        reach = self._reach()
        queues = sorted(queue for queue in map(text_of, members) if reach.heals(queue) and not ambiguous(queue))
        for queue in queues:
            reach.note_enforced(queue)
        return queues

    async def _remove_due(self, index: Index) -> None:
        """Remove what is due now in an index. What a round does not get done the next one does."""
        seconds, _ = await self._connections.to(index.database).time()
        for window, offset in self._schedule.due_pages(self._policy, index, int(seconds)):
            page = await self._sweep_page(index, "score", *window, offset, PAGE_SIZE)
            self._schedule.due.looked(_looked(page))

    async def _repair_active(self, queue: Queue) -> None:
        """Repair the IDs of a queue that have been active for longest."""
        database, name = queue
        script = self._connections.to(database).register_script(self._active_script)
        answer: Any = await script(
            keys=[index_key(name, key) for key in ("active", "lease", "deadlines")],
            args=[task_prefix(name), PAGE_SIZE, int(time.time()) - LEASE_SLACK_SECONDS],
        )
        _, persisted, dropped = answer
        self._tell_repaired(name, persisted, dropped)

    async def _repair_waiting(self, place: WaitingTasks, first: int) -> Looked:
        """Take TTLs off a page of waiting tasks, all of which stay where they are."""
        database, queue, state = place
        script = self._connections.to(database).register_script(self._waiting_script)
        answer: Any = await script(
            keys=[index_key(queue, state)], args=[task_prefix(queue), state, first, first + PAGE_SIZE - 1]
        )
        examined, persisted = answer
        self._tell_repaired(queue, persisted, 0)
        return Looked(examined, kept=examined)

    def _tell_repaired(self, queue: str, persisted: int, dropped: int) -> None:
        if persisted or dropped:
            message = "queue %s: %d TTLs taken off live tasks, %d active IDs without a task dropped"
            _log.info(message, queue, persisted, dropped)
            self._observer.repaired(queue, persisted, dropped)

    async def _sweep_page(self, index: Index, *where: str | int) -> Swept:
        """Remove what is due on a page of an index, drop the page's ghosts, and tell of both.

        Args:
            index: the index.
            where: which page, as `sweep.lua` takes it: by rank or by score.
        """
        started = time.time_ns()
        database, queue, state = index
        client, policy = self._connections.to(database), self._policy
        key, grace_ms = index_key(queue, state.value), policy.grace_seconds * 1000
        handed_over_first = "" if self._handover is None else "1"
        retentions = archive_retentions(policy, queue) if state is State.ARCHIVED else ()
        margins = self._schedule.margins(policy)
        about = task_prefix(queue), state.value, grace_ms
        answer: Any = await client.register_script(self._index_script)(
            keys=[key], args=[*about, *where, handed_over_first, *margins, *retentions]
        )
        examined, _, ghosts, due, missing, size = answer
        self._schedule.note_size(index, size)
        if self._handover is not None:
            due = await self._handover.hand_over(client, queue, state.value, due, grace_ms)
        if missing:
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            second: Any = client.register_script(self._ghost_script)
            ghosts += await second(keys=[key], args=[task_prefix(queue), *missing])
        ids = tuple(text_of(task_id) for task_id in due)
        page = Swept(database, queue, state, examined, ids, ghosts, started, time.time_ns())
        if ids or ghosts:
            self._observer.swept(page)
        return page


def _looked(page: Swept) -> Looked:
    return Looked(page.examined, kept=page.examined - len(page.due) - page.ghosts)
