"""Gives tasks that ended without a TTL what the policy says, or in shadow mode tells of them.

Where to look the survey says: an archive in which something has died since the last round, a small index with tasks
that have no TTL, a page of the patrol with such tasks. What each gets is decided in Redis, by `adopt.lua`, with the
rules that can apply to the index: a task is never seen in one state and changed in another.

Invariants:

* Only what is in its index's own state, has a message and has no TTL gets one. What a rule keeps for ever, and what is
  outside the share of a rollout, stays as it is.
* Nothing is removed here. What is due already gets so short a time that the sweeper takes it next, like anything that
  is due, and hands it over before it goes.
* What nobody can date counts from now, and is never due at once.
* Where nothing is enforced nothing is changed, and each task is told of once.
* Doing it twice changes nothing, so no lock is needed.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from asynq_ttl.asynq.keys import index_key, task_prefix, text_of
from asynq_ttl.events import Adopted, SweepObserver
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Adopt, State
from asynq_ttl.sweep.adoption import Adoption, AdoptionRules
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.failures import Failures
from asynq_ttl.sweep.schedule import PAGE_SIZE, Index, Schedule
from asynq_ttl.sweep.survey import BATCH, Queue, Survey

_log = logging.getLogger("asynq_ttl.sweeper")

# Full pages of an archive that one round looks at, because something has died there since the round before.
_NEWEST_PAGES = 20
# How much later than its score says an entry may come, and how far ahead a worker's clock may be.
_LATE_SECONDS = 2
_AHEAD_SECONDS = 60
# How far back an archive is looked at for the first time. What is older the survey or the patrol finds.
_FIRST_SECONDS = 60

Where = tuple[str | int, ...]
"""A page of an index, as `sweep.lua` takes it: by rank or by score."""


class Seen(NamedTuple):
    """What looking at a page came to.

    Attributes:
        members: how many it has.
        due: whether a task that was given a TTL is due.
    """

    members: int
    due: bool


NOTHING = Seen(0, due=False)


class _Row(NamedTuple):
    """A task that `adopt.lua` has adopted."""

    id: bytes
    rule: int
    seconds: int
    undated: int
    due: int


class Adopter:
    """Adopts tasks.

    Args:
        connections: to Redis.
        reach: returns what is in force at the moment.
        schedule: how soon a key has to expire for its task to be due.
        failures: where refusals are noted.
        observer: who is told.
        began: when the sidecar began, in Unix seconds.
        batch: how many queues may be asked about by one script.
    """

    def __init__(
        self,
        connections: Connections,
        reach: Callable[[], Reach],
        schedule: Schedule,
        failures: Failures,
        observer: SweepObserver,
        *,
        began: float,
        batch: int = BATCH,
    ) -> None:
        self._batch = batch
        self._connections = connections
        self._reach = reach
        self._schedule = schedule
        self._failures = failures
        self._observer = observer
        self._began = int(began)
        self._adoption = Adoption()
        # When the archives of some queues were looked at last, by a clock that never goes back.
        self._looked_at: dict[Queue, float] = {}
        self._page_script = load("shared/pick.prologue", "shared/hold.prologue", "sweep/page.prologue", "sweep/adopt")
        self._newest_script = load("sweep/newest")

    async def look(self, known: Survey) -> list[tuple[Index, Where]]:
        """Look where the surveys have found something since the last round; return the pages on which a task is due.

        Args:
            known: what the surveys have found.
        """
        found: list[tuple[Index, Where]] = []
        for index, pages in await self._newest(known):
            with self._failures.kept_to(*index):
                found += [(index, page) for page in pages if (await self.page(index, page)).due]
        for queue, place, digest in known.untimed():
            index = Index(*queue, State(place))
            if digest != self._adoption.left(index, None):
                page: Where = ("rank", 0, PAGE_SIZE - 1, "", "")
                with self._failures.kept_to(*index):
                    if (await self.page(index, page)).due:
                        found.append((index, page))
                    if self._rules(index) is not None:
                        self._adoption.note_left(index, None, digest)
        return found

    async def page(self, index: Index, page: Where) -> Seen:
        """Adopt what is to be adopted on a page.

        Args:
            index: the index.
            page: which page.
        """
        rules = self._rules(index)
        if rules is None:
            return NOTHING
        first = int(page[1]) if page[0] == "rank" else -1
        left = self._adoption.left(index, first) if first >= 0 else ""
        due, digest, members, more = False, "", 0, True
        while more:
            started = time.time_ns()
            told, size, looked, *flat = await self._ask(index, page, left, rules)
            rows = [_Row(*flat[at : at + 5]) for at in range(0, len(flat), 5)]
            self._tell(index, rows, rules, (started, time.time_ns()))
            due = due or any(row.due for row in rows)
            digest, left = digest or text_of(told), ""
            members += looked
            more = looked < size  # its messages were too many bytes for one script
            page = _behind(page, looked)
        if first >= 0:
            self._adoption.note_left(index, first, digest)
        return Seen(members, due=due and self._reach().enforcing)

    async def _ask(self, index: Index, page: Where, left: str, rules: AdoptionRules) -> Any:  # noqa: ANN401 - as Redis answers
        """Run `adopt.lua`."""
        database, queue, state = index
        reach = self._reach()
        script: Any = (await self._connections.to(database)).register_script(self._page_script)
        since = self._began if reach.policy.adopt is Adopt.NEW else 0
        soon = self._schedule.margins(reach.policy, hands_over=reach.hands_over).unknown_ms
        change = "1" if reach.enforcing else ""
        about = task_prefix(queue), state.value
        args = [*about, *page, since, soon, change, left, rules.argument]
        return await script(keys=[index_key(queue, state.value)], args=args)

    def _rules(self, index: Index) -> AdoptionRules | None:
        """Return the rules for an index; None where nothing is to be adopted there."""
        reach = self._reach()
        return self._adoption.rules(reach.policy, index) if reach.adopts(index.queue) else None

    async def _newest(self, known: Survey) -> list[tuple[Index, Iterator[Where]]]:
        """Return the archives in which something has died since they were looked at last, and where."""
        by_database: dict[int, list[Queue]] = defaultdict(list)
        for queue in self._adoption.closely(known.queues(), self._archives):
            by_database[queue.database].append(queue)
        found: list[tuple[Index, Iterator[Where]]] = []
        at, looked_at = time.monotonic(), self._looked_at
        self._looked_at = {}
        for database, some in by_database.items():
            for first in range(0, len(some), self._batch):
                windows = await self._ask_newest(database, some[first : first + self._batch], at, looked_at)
                found += [(Index(*queue, State.ARCHIVED), _pages(window)) for queue, window in windows.items()]
            self._looked_at.update(dict.fromkeys(some, at))
        return found

    def _archives(self, queue: Queue) -> bool:
        """Say whether archived tasks of a queue can be adopted."""
        return self._rules(Index(*queue, State.ARCHIVED)) is not None

    async def _ask_newest(
        self, database: int, queues: list[Queue], at: float, looked_at: dict[Queue, float]
    ) -> dict[Queue, tuple[str, str, int]]:
        """Return the archives that have something new: in which range of scores, and how many members there."""
        back = at - min(looked_at.get(queue, at - _FIRST_SECONDS) for queue in queues) + _LATE_SECONDS
        keys = [index_key(queue.name, State.ARCHIVED.value) for queue in queues]
        script: Any = (await self._connections.to(database)).register_script(self._newest_script)
        try:
            answer: Any = await script(keys=keys, args=[int(back) + 1, _AHEAD_SECONDS])
        except ResponseError:
            if len(queues) == 1:
                with self._failures.kept_to(*queues[0], State.ARCHIVED):
                    raise
                return {}
            # Because of one of them, or since a node of a cluster has not all of them.
            apart = [await self._ask_newest(database, [queue], at, looked_at) for queue in queues]
            return {queue: window for one in apart for queue, window in one.items()}
        lowest, highest, *counts = answer
        window = text_of(lowest), text_of(highest)
        return {queue: (*window, count) for queue, count in zip(queues, counts, strict=True) if count}

    def _tell(self, index: Index, rows: list[_Row], rules: AdoptionRules, times: tuple[int, int]) -> None:
        """Tell of tasks, together where one rule decided about them."""
        enforced = self._reach().enforcing
        if not enforced:
            untold = self._adoption.untold(index, (row.id for row in rows))
            rows = [row for row in rows if row.id in untold]
        by_rule: dict[int, list[_Row]] = defaultdict(list)
        for row in rows:
            by_rule[row.rule].append(row)
        for number, some in by_rule.items():
            told = Adopted(
                *index,
                rule=rules.names[number],
                ids=tuple(text_of(row.id) for row in some),
                ttl_seconds=max(row.seconds for row in some),
                undated=sum(row.undated for row in some),
                enforced=enforced,
                start_ns=times[0],
                end_ns=times[1],
            )
            self._observer.adopted(told)
            does = "got" if enforced else "would get"
            message = "queue %s: %d %s tasks without a TTL %s one by rule %s"
            _log.info(message, told.queue, len(some), told.state.value, does, told.rule)
        if rows:
            self._adoption.note_lively(Queue(index.database, index.queue))


def _pages(window: tuple[str, str, int]) -> Iterator[Where]:
    """Yield the pages of a range of scores, as many as one round looks at: lowest, highest, number of members."""
    lowest, highest, count = window
    for offset in range(0, min(count, _NEWEST_PAGES * PAGE_SIZE), PAGE_SIZE):
        yield "score", lowest, highest, offset, PAGE_SIZE


def _behind(page: Where, looked: int) -> Where:
    """Return the rest of a page of which some members were looked at."""
    kind, first, last, offset, count = page
    if kind == "rank":
        return kind, int(first) + looked, last, offset, count
    return kind, first, last, int(offset) + looked, int(count) - looked
