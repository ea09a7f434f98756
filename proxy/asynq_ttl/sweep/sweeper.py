"""Removes what is due from index and keyspace together, and heals indexes that others left with ghosts.

A key's own TTL is only the backstop: it fires `grace` after the retention is over, even if every sidecar is dead.
Before that, the sweeper removes hash, index entry and uniqueness lock in one script, so that no index ever names a
task that is not there.

Where there may be something to do, `survey` says; what is looked at when is up to `schedule`. This module does it and
tells; of a policy it knows what `Reach` says.

Invariants:

* A task is removed only if it is in the index's own state and its TTL is at most `grace`. The grace it was given may
  have been another one, so its index score must not say that its retention is not over. A task without a TTL stays.
* Where due tasks are handed over, none that the patrol passes goes by its own TTL; see `handover`.
* Where the state of a task is another one than its index says, only the entry goes. A state that is not one of Asynq's
  says nothing, so there the entry stays.
* Live tasks keep no TTL that a run past the sidecar has left on them. It comes off while they are active (longest
  active first), pending or waiting for their retry (newest first, in a slow round trip where many wait).
* An active ID whose hash is gone and whose lease is over leaves the list.
* Of the sidecars with the same policy, one per Redis sweeps at a time; see `lock`.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from asynq_ttl.asynq.keys import index_key, task_prefix, text_of
from asynq_ttl.events import SweepObserver, Swept
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import TERMINAL, Policy, State
from asynq_ttl.sweep.adopter import Adopter, Where
from asynq_ttl.sweep.connections import TIMEOUT_SECONDS, Connections
from asynq_ttl.sweep.failures import Failures, words_of
from asynq_ttl.sweep.handover import LONGEST_HANDOVER_SECONDS, Batch, Handover
from asynq_ttl.sweep.live_tasks import LiveTasks
from asynq_ttl.sweep.lock import Lock
from asynq_ttl.sweep.missing_hashes import MissingHashes
from asynq_ttl.sweep.onlooker import Onlooker
from asynq_ttl.sweep.part import WHOLE, Part
from asynq_ttl.sweep.schedule import (
    PAGE_SIZE,
    ROUNDS_IN_GRACE,
    WAITING_STATES,
    Index,
    Looked,
    Schedule,
    WaitingTasks,
)
from asynq_ttl.sweep.surveyor import Surveyor
from asynq_ttl.upstream.endpoint import Endpoint

# A lock outlasts two rounds that fail, and a Redis or a sink that does not answer for as long as is waited for it.
_ROUNDS_IN_LOCK = 3
_TERMINAL = tuple(state.value for state in TERMINAL)
_INDEX_TEXTS = ("shared/states.prologue", "shared/hold.prologue", "sweep/page.prologue", "sweep/sweep")


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
        began: when the sidecar began, in Unix seconds; 0 for now.
        part: which queues are swept.
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
        began: float = 0,
        part: Part = WHOLE,
    ) -> None:
        self._part = part
        connections = self._connections = Connections(endpoint)
        self._handover, self._reach = handover, reach
        self.failures = Failures(moves=part.moves)
        """What Redis has refused, and where."""
        self._observer = observer
        # What the round found due and has to hand over.
        self._found: list[tuple[Index, Batch]] = []
        self._schedule = Schedule(interval_seconds)
        self._surveyor = Surveyor(connections, reach, databases, self._schedule, self.failures, part=part)
        self.held = self._surveyor.held
        self._missing, self._leads = MissingHashes(part), False
        longest_wait = TIMEOUT_SECONDS if handover is None else LONGEST_HANDOVER_SECONDS
        self._lock = Lock(max(interval_seconds * _ROUNDS_IN_LOCK, longest_wait), part.lock_key)
        self._index_script = load(*_INDEX_TEXTS)
        self._live = LiveTasks(connections, observer)
        self._adopter = Adopter(
            connections, reach, self._schedule, self.failures, observer, began=began or time.time(), batch=part.batch
        )
        self._onlooker = Onlooker(
            connections, reach, databases, self._adopter, self.failures, part=part, interval_seconds=interval_seconds
        )

    @property
    def behind(self) -> bool:
        """Whether the last round left due tasks to the next one."""
        return self._leads and self._schedule.due.spent

    @property
    def leads(self) -> bool:
        """Whether this is the sidecar that sweeps. It may have no lock: Redis may be too full to write one."""
        return self._leads

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
            started, problem = time.monotonic(), ""
            try:
                sweeps = await self._may_sweep()
                if sweeps:
                    await self._work()
                await self._onlooker.look()
                if not sweeps:
                    continue
            except (RedisError, OSError) as error:
                problem = words_of(error)
            self._observer.sweep_ended(time.monotonic() - started, problem, self.failures.end_round(problem))

    async def sweep(self) -> None:
        """Do one round, whoever has the lock.

        Raises:
            RedisError: Redis cannot be reached or takes no writes. A refusal at one place is only noted.
        """
        if self._reach().sweeps:
            await self._surveyor.survey()
            await self._work()
        await self._onlooker.look()

    async def _work(self) -> None:
        """Do what the surveys have found worth doing."""
        known = self._surveyor.known
        self._schedule.begin_round(self._surveyor.large_indexes())
        self._found.clear()
        await self._remove_due()
        await self._look_at_odd()
        await self._adopt()
        for index, first in self._schedule.patrol_pages(self._policy):
            looked = Looked(0, kept=0)  # also after a refusal: the patrol goes on elsewhere
            with self.failures.kept_to(*index):
                looked = await self._patrol_page(index, first)
            self._schedule.patrol.looked(index, looked)
        waiting = [WaitingTasks(*queue, place) for queue, place, _ in known.larger(*WAITING_STATES)]
        for place, first in self._schedule.waiting_pages(self._policy, waiting):
            looked = Looked(0, kept=0)
            with self.failures.kept_to(*place):
                looked = await self._live.repair_waiting(place, first)
            self._schedule.waiting.looked(place, looked)
        if self._handover is not None:
            await self._note_over_cap(self._handover)
            await self._hand_over(self._handover)

    async def _adopt(self) -> None:
        """Give what ended without a TTL what the policy says; remove what is due by that."""
        if self._reach().enforcing:
            for index, page in await self._adopter.look(self._surveyor.known):
                with self.failures.kept_to(*index):
                    await self._sweep_page(index, *page)

    async def _patrol_page(self, index: Index, first: int) -> Looked:
        """Sweep a page, and adopt its tasks without a TTL."""
        page: Where = "rank", first, first + PAGE_SIZE - 1, "", ""
        swept, untimed = await self._sweep_page(index, *page)
        gone = _gone(swept)
        if untimed and self._reach().enforcing and (await self._adopter.page(index, page)).due:
            gone += _gone((await self._sweep_page(index, *page))[0])
        return Looked(swept.examined, kept=swept.examined - gone)

    async def close(self) -> None:
        """Give the lock back and close the connections."""
        with suppress(RedisError, OSError):  # it expires by itself
            await self._lock.release(await self._connections.home())
        await self._connections.close()

    async def _may_sweep(self) -> bool:
        """Survey, and say whether there is something that this sidecar is to sweep.

        Where another sidecar has the lock, that is only what it may not know of. Where there is nothing to sweep, no
        lock is held.
        """
        reach = self._reach()
        if not reach.sweeps:
            self._lock.let_expire()
            self._leads = False
            return False
        home = await self._connections.home()
        await self._part.refresh(home)
        free = self._lock.held or await self._lock.is_free(home, reach.coverage)
        await self._surveyor.survey(unlisted_only=not free)
        if free and self._surveyor.known.anything:
            self._leads = await self._lock.take(await self._connections.home(), reach.coverage)
            return self._leads
        self._leads = False
        if free:
            await self._lock.release(await self._connections.home())
        return free or self._surveyor.known.anything

    async def _remove_due(self) -> None:
        """Remove what is due now. What a round does not get done the next one does."""
        now, _ = await (await self._connections.home()).time()
        known = self._surveyor.known
        for queue, state in known.due(int(now), self._policy.grace_seconds):
            index = Index(*queue, State(state))
            with self.failures.kept_to(*index):
                for window, offset in self._schedule.due_pages(self._policy, index, int(now)):
                    page, _ = await self._sweep_page(index, "score", *window, offset, PAGE_SIZE)
                    self._schedule.due.looked(Looked(page.examined, kept=page.examined - _gone(page)))
            known.again(queue)

    async def _look_at_odd(self) -> None:
        """Look where a survey has seen something odd, for so long that the grace has room for some rounds."""
        known, until = self._surveyor.known, time.monotonic() + self._policy.grace_seconds / ROUNDS_IN_GRACE
        for queue, place in known.odd():
            with self.failures.kept_to(*queue, place):
                if place in _TERMINAL:
                    await self._sweep_page(Index(*queue, State(place)), "rank", 0, PAGE_SIZE - 1, "", "")
                elif place in WAITING_STATES:
                    await self._live.repair_waiting(WaitingTasks(*queue, place), 0)
                else:
                    await self._live.repair_active(queue)
                known.checked(queue, place)
            if time.monotonic() > until:
                break

    async def _sweep_page(self, index: Index, *where: str | int) -> tuple[Swept, int]:
        """Remove what is due on a page, or note it for the handover; drop its ghosts; tell of it.

        Args:
            index: the index.
            where: which page, as `sweep.lua` takes it.

        Returns: the page, and how many of its tasks have no TTL.
        """
        started = time.time_ns()
        database, queue, state = index
        client, policy = await self._connections.to(database), self._policy
        key, grace_ms = index_key(queue, state.value), policy.grace_seconds * 1000
        retentions = self._schedule.retentions(policy, queue) if state is State.ARCHIVED else ()
        margins = self._schedule.margins(policy, hands_over=self._handover is not None)
        about = task_prefix(queue), state.value, grace_ms
        script: Any = client.register_script(self._index_script)
        answer: Any = await script(keys=[key], args=[*about, *where, *margins, *retentions])
        examined, _, ghosts, due, missing, untimed = answer
        if self._handover is not None:
            self._found.append((index, Batch(queue, state.value, due, grace_ms)))
            due = []
        if missing:
            ghosts += await self._missing.drop(client, queue, key, missing)
        ids = tuple(text_of(task_id) for task_id in due)
        page = Swept(database, queue, state, examined, ids, ghosts, started, time.time_ns())
        if ids or ghosts:
            self._observer.swept(page)
        return page, untimed

    async def _note_over_cap(self, handover: Handover) -> None:
        """Note the oldest tasks of archives that are larger than the policy in force lets them be."""
        if not self._reach().enforcing:
            return
        for queue, place, members in self._surveyor.known.larger(State.ARCHIVED.value, than=0):
            cap = self._policy.handover_cap(queue.name)
            if cap is not None and members > cap.most:
                index = Index(*queue, State(place))
                with self.failures.kept_to(*index):
                    ids = await handover.over_cap(await self._connections.to(queue.database), queue.name, cap)
                    self._found.append((index, Batch(queue.name, place, ids, 0, cap.most)))

    async def _hand_over(self, handover: Handover) -> None:
        """Hand over what the round found due, and tell of what is gone. What is not done the next round finds again."""
        until = handover.begin_round()
        for index, batch in self._found:
            if not batch.ids:
                continue
            if not await self._lock.keep(await self._connections.home(), self._reach().coverage):
                break
            started = time.time_ns()
            with self.failures.kept_to(*index):
                gone = await handover.hand_over(await self._connections.to(index.database), batch, until)
                if gone:
                    ids = tuple(text_of(task_id) for task_id in gone)
                    self._observer.swept(Swept(*index, 0, ids, 0, started, time.time_ns(), handover.name))


def _gone(page: Swept) -> int:
    """Return how many entries of a page are gone."""
    return len(page.due) + page.ghosts
