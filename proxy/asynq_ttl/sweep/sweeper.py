"""Removes what is due from index and keyspace together, and heals indexes that others left with ghosts.

A key's own TTL is only the backstop: it fires `grace` after the retention is over, even if every sidecar is dead.
Before that, the sweeper removes hash, index entry and uniqueness lock in one script, so that no index ever names a
task that is not there.

Invariants:

* Only a task in the index's own state whose TTL is at most `grace` is removed, and only if its index score does not say
  that its retention is not over: the grace it was given may have been another one. Of any other mismatch only the entry
  goes; a state that is not one of Asynq's is no mismatch. A task without a TTL is never touched.
* Live tasks are looked after too. A TTL that a run past the sidecar has left on a task comes off while it is active
  (longest active first), pending or waiting for its retry (newest first, in a slow round trip). An active ID whose hash
  is gone and whose lease is over leaves the list.
* Of the sidecars with the same policy, one per Redis sweeps at a time. Two would do no harm, only work twice. One that
  has another policy may know nothing of the queues and retentions of this one.
* The work of a round is bounded, and none of it depends on the size of the keyspace. Where due tasks can be, follows
  from the index scores: a completed task is due at its score; an archived one at its score plus the retention of its
  rule, so each retention of a queue has one narrow window of scores. Besides, a slow round trip through the whole
  index finds what the windows miss (other policies, clocks that disagree, ghosts). It is as quick as it has to be to
  come by everywhere twice within the grace, or a minute, up to a limit.
"""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from asynq_ttl.asynq.keys import index_key, task_prefix, text_of
from asynq_ttl.events import SweepObserver, Swept
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, State
from asynq_ttl.sweep.handover import Handover
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.sweeper")

LOCK_KEY = "asynq-ttl:sweeper"
PAGE_SIZE = 500
# Pages a round may take to remove what is due. What a page costs Redis is measured by `bench/sweeper.py`.
DUE_PAGES = 200
# Members that are looked at for each second on the way through the indexes: at least, and at most, which is enough for
# indexes of 300,000 within the usual grace of 60 s. Then through the tasks that wait: 120,000 in that grace, which is
# the least that a task run past the sidecar still has.
PATROL_PER_SECOND = 500
MOST_PATROL_PER_SECOND = 10_000
WAITING_PER_SECOND = 2_000
# What looking at a page costs besides its members, as so many members.
_LOOK_COST = 20
# A task is due for as long as the grace lasts; a round that comes late or fails must not be the only one in that time.
ROUNDS_IN_GRACE = 4
# A task of whose retention nothing is known is due this long before its end, or the grace, if that is shorter. Only on
# the way through the indexes is it found, so where they are so large that this takes longer, it is due earlier.
_UNKNOWN_SECONDS = 60
# How long a lease has to be over before its ID counts as nobody's. Asynq's own recoverer waits as long.
LEASE_SLACK_SECONDS = 30
_TIMEOUT_SECONDS = 5.0
# An entry without a hash is dropped if it still has none after this time.
_SECOND_LOOK_SECONDS = 0.05


# A terminal index, by database, queue and state; a place where tasks wait, likewise.
_Index = tuple[int, str, State]
_Place = tuple[int, str, str]
_P = TypeVar("_P", _Index, _Place)


class Sweeper:
    """Sweeps the databases and queues that a policy is about.

    Args:
        endpoint: the Redis.
        rewriter: returns the reach of the policy in force: which queues and which retentions there are.
        databases: the database numbers seen so far; may grow.
        observer: who is told.
        interval_seconds: the longest time between rounds.
        handover: who gets due tasks before they are removed; None for nobody.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        rewriter: Callable[[], Reach],
        databases: set[int],
        observer: SweepObserver,
        *,
        interval_seconds: float,
        handover: Handover | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._handover = handover
        self._rewriter = rewriter
        self._databases = databases
        self._observer = observer
        self._interval = interval_seconds
        self._token = secrets.token_hex(8)
        self._clients: dict[int, Redis] = {}
        self._patrols: dict[_Index, int] = {}
        self._sizes: dict[_Index, int] = {}
        self._waiting: dict[_Place, int] = {}
        self._due_left = DUE_PAGES
        # The lock that this sidecar holds; empty without.
        self._locked = ""
        self._script = load("shared/states.prologue", "sweep/sweep")
        self._ghost_script = load("sweep/sweep_ghosts")
        self._active_script = load("sweep/sweep_active")
        self._waiting_script = load("sweep/sweep_waiting")

    @property
    def behind(self) -> bool:
        """Whether the last round left due tasks to the next one."""
        return self.leads and self._due_left <= 0

    @property
    def leads(self) -> bool:
        """Whether this is the sidecar that sweeps."""
        return bool(self._locked)

    @property
    def interval_seconds(self) -> float:
        """The time between rounds: what was asked for, but so short that the grace has room for some of them."""
        return min(self._interval, self._rewriter().policy.grace_seconds / ROUNDS_IN_GRACE)

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            # Jittered, so that the sidecars of a fleet do not all ask for the lock at the same moment.
            await asyncio.sleep(self.interval_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
            started = time.monotonic()
            problem = ""
            try:
                self._locked = await self._lock() if self._rewriter().sweeps else ""
                if not self._locked:
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
        self._due_left = DUE_PAGES
        indexes = [
            (database, queue, state)
            for database in sorted(self._databases)
            for queue in await self._queues(database)
            for state in State
        ]
        for index in indexes:
            await self._remove_due(*index)
        self._patrols = {index: self._patrols.get(index, 0) for index in indexes}
        seconds = self.interval_seconds
        self._sizes = {index: self._sizes.get(index, 0) for index in indexes}
        per_second = 2 * sum(self._sizes.values()) / min(self._rewriter().policy.grace_seconds, _UNKNOWN_SECONDS)
        per_second = min(max(per_second, PATROL_PER_SECOND), MOST_PATROL_PER_SECOND)
        await _go_round(self._patrols, int(per_second * seconds), self._patrol)
        queues = dict.fromkeys(index[:2] for index in indexes)
        for database, queue in queues:
            await self._look_after_active(database, queue)
        places = [(database, queue, state) for database, queue in queues for state in ("pending", "retry")]
        self._waiting = {place: self._waiting.get(place, 0) for place in places}
        await _go_round(self._waiting, int(WAITING_PER_SECOND * seconds), self._look_after_waiting)

    async def close(self) -> None:
        """Give the lock back and close the connections."""
        if self._handover is not None:
            await self._handover.close()
        if self._locked:
            with suppress(RedisError, OSError):  # it expires by itself
                client = self._client(self._endpoint.upstream.database)
                await client.eval(_UNLOCK, 1, self._locked, self._token)
        for client in self._clients.values():
            await client.aclose()

    async def _lock(self) -> str:
        """Take or keep a lock, so that one sidecar per Redis and policy sweeps; return its key, or nothing.

        Where the lock is held by a sidecar with another policy, there is one beside it for each other policy.
        """
        client = self._client(self._endpoint.upstream.database)
        milliseconds = int(max(self._interval * 3, _TIMEOUT_SECONDS) * 1000)
        coverage = self._rewriter().coverage
        for key in (LOCK_KEY, f"{LOCK_KEY}:{coverage}"):
            answer = await client.eval(_LOCK, 1, key, self._token, str(milliseconds), coverage)
            if answer == _LOCKED:
                return key
            if answer != _LOCKED_BY_ANOTHER_POLICY:
                break
        return ""

    async def _queues(self, database: int) -> list[str]:
        try:
            members: Any = await self._client(database).smembers("asynq:queues")
        except ResponseError as error:
            if "out of range" not in str(error):
                raise
            # A client asked for a database that there is not.
            self._databases.discard(database)
            await self._clients.pop(database).aclose()
            return []
        reach = self._rewriter()
        queues = sorted(queue for queue in map(text_of, members) if reach.heals(queue))
        for queue in queues:
            reach.note_enforced(queue)
        return queues

    async def _remove_due(self, database: int, queue: str, state: State) -> None:
        """Remove what is due now, window by window; what a round does not get done the next one does."""
        seconds, _ = await self._client(database).time()
        for low, high in self._windows(queue, state, int(seconds)):
            offset = 0
            while self._due_left > 0:
                page = await self._page(database, queue, state, "score", low, high, offset, PAGE_SIZE)
                if page.examined < PAGE_SIZE:
                    break
                self._due_left -= 1
                offset += page.examined - len(page.due) - page.ghosts

    def _windows(self, queue: str, state: State, now: int) -> Iterator[tuple[str, str]]:
        """Yield the ranges of scores in which tasks can have become due.

        Each is as wide as the grace, to both sides: so far the clocks of workers and of Redis may disagree.
        """
        policy = self._rewriter().policy
        slack = policy.grace_seconds
        if state is State.COMPLETED:
            yield "-inf", str(now + slack)
            return
        for seconds in self._retentions(queue):
            yield str(now - seconds - slack - int(self._interval)), str(now - seconds + slack)

    def _retentions(self, queue: str) -> list[int]:
        """Return the retentions in seconds that archived tasks of a queue can have by the policy, shortest first."""
        policy = self._rewriter().policy
        rules = policy.queue_rules(queue, State.ARCHIVED)
        found = {
            rule.archived.seconds if rule.archived.keep is Keep.TTL else OWN_ARCHIVE_SECONDS
            for rule in rules
            if rule.archived is not None and rule.archived.keep in (Keep.TTL, Keep.OWN)
        }
        limits = policy.archive_limits(queue)
        if limits is not None and rules[-1].types and limits.outlasts(OWN_ARCHIVE_SECONDS):
            found.add(OWN_ARCHIVE_SECONDS)  # what no rule matches
        return sorted(found)

    async def _patrol(self, index: _Index, first: int) -> tuple[int, int]:
        """Sweep a page of an index whatever its scores say; return how many were looked at, and how many stay."""
        page = await self._page(*index, "rank", first, first + PAGE_SIZE - 1, "", "")
        return page.examined, page.examined - len(page.due) - page.ghosts

    async def _look_after_active(self, database: int, queue: str) -> None:
        script = self._client(database).register_script(self._active_script)
        answer: Any = await script(
            keys=[index_key(queue, name) for name in ("active", "lease", "deadlines")],
            args=[task_prefix(queue), PAGE_SIZE, int(time.time()) - LEASE_SLACK_SECONDS],
        )
        _, persisted, dropped = answer
        self._tell_repaired(queue, persisted, dropped)

    async def _look_after_waiting(self, place: _Place, first: int) -> tuple[int, int]:
        """Look after a page of the tasks that wait in a place; return how many were looked at, twice: they all stay."""
        database, queue, state = place
        script = self._client(database).register_script(self._waiting_script)
        answer: Any = await script(
            keys=[index_key(queue, state)], args=[task_prefix(queue), state, first, first + PAGE_SIZE - 1]
        )
        examined, persisted = answer
        self._tell_repaired(queue, persisted, 0)
        return examined, examined

    def _tell_repaired(self, queue: str, persisted: int, dropped: int) -> None:
        if persisted or dropped:
            message = "queue %s: %d TTLs taken off live tasks, %d active IDs without a task dropped"
            _log.info(message, queue, persisted, dropped)
            self._observer.repaired(queue, persisted, dropped)

    async def _page(self, database: int, queue: str, state: State, *where: str | int) -> Swept:
        started = time.time_ns()
        grace = self._rewriter().policy.grace_seconds * 1000
        script = self._client(database).register_script(self._script)
        leave = "" if self._handover is None else "1"
        # The rounds are jittered: within this time there is one.
        last_round = int(self.interval_seconds * 1250)
        unknown = max(_UNKNOWN_SECONDS, 2 * sum(self._sizes.values()) // MOST_PATROL_PER_SECOND)
        ends = (last_round, min(grace, unknown * 1000))
        retentions = self._retentions(queue) if state is State.ARCHIVED else ()
        answer: Any = await script(
            keys=[index_key(queue, state.value)],
            args=[task_prefix(queue), state.value, grace, *where, leave, *ends, *retentions],
        )
        examined, _, ghosts, due, missing, self._sizes[database, queue, state] = answer
        if self._handover is not None:
            due = await self._handover.settle(self._client(database), queue, state.value, due, grace)
        if missing:
            await asyncio.sleep(_SECOND_LOOK_SECONDS)
            second: Any = self._client(database).register_script(self._ghost_script)
            ghosts += await second(keys=[index_key(queue, state.value)], args=[task_prefix(queue), *missing])
        ids = tuple(text_of(task_id) for task_id in due)
        page = Swept(database, queue, state, examined, ids, ghosts, started, time.time_ns())
        if ids or ghosts:
            self._observer.swept(page)
        return page

    def _client(self, database: int) -> Redis:
        client = self._clients.get(database)
        if client is None:
            client = self._clients[database] = self._endpoint.redis(
                database,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
                client_name="asynq-ttl-sweeper",
            )
        return client


async def _go_round(places: dict[_P, int], members: int, look: Callable[[_P, int], Awaitable[tuple[int, int]]]) -> None:
    """Make some way through every place, in turn, from where the last round stopped.

    Args:
        places: how far the way through each has been made; 0 for one that begins anew. Updated.
        members: how many of them may be looked at in this round: a page in any case, and a page more at the most.
        look: looks at the page of a place that starts at a position; returns how many members were there, and how many
            of them still are.
    """
    members = max(members, PAGE_SIZE)
    for place in sorted(places, key=lambda place: (places[place] == 0, random.random())):  # noqa: S311 - no secret
        while members > 0:
            examined, kept = await look(place, places[place])
            members -= examined + _LOOK_COST
            places[place] = places[place] + kept if examined == PAGE_SIZE else 0
            if examined < PAGE_SIZE:
                break


# The lock is taken if it is free, and kept by whoever has it.
_LOCK = """
local holder = redis.call('GET', KEYS[1])
local token, coverage = string.match(holder or '', '^(%S+) (%S+)$')
if holder and token ~= ARGV[1] then
  return coverage == ARGV[3] and 0 or 2
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[3], 'PX', ARGV[2])
return 1
"""
_LOCKED = 1
_LOCKED_BY_ANOTHER_POLICY = 2
_UNLOCK = """
if string.find(redis.call('GET', KEYS[1]) or '', ARGV[1], 1, true) == 1 then
  redis.call('DEL', KEYS[1])
end
return 0
"""
