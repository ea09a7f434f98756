"""Gives terminal tasks that have no TTL the one their policy says, and removes ghosts and orphans where wanted.

Walks through every queue's terminal indexes, oldest entries first, and, for orphans, through the keyspace. What is done
to each entry and hash, `backfill_decisions` decides.

Invariants:

* A run that is interrupted and goes on ends as one that ran through: a task that was changed needs no more changes, and
  `now` stays the time of the first start.
* `max` keeps the newest tasks of an archive: the oldest go, as many as there are over `max` once the policy has removed
  what it removes. A task that a rule keeps for ever counts, but is never trimmed.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.asynq.task import Entry, Task
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Decider, Orphans, ghost_reason, removes
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.database import Cursor, Database
from asynq_ttl.existing_keys.pages import START, IndexPage, index_pages, index_rounds, task_pages
from asynq_ttl.existing_keys.queue_places import Place, queue_places
from asynq_ttl.existing_keys.standing import TERMINAL
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Policy, State

_ORDER = (State.ARCHIVED, State.COMPLETED)


class Backfill:
    """One run.

    Args:
        database: where.
        policy: the policy.
        options: what is asked.
        changer: makes the changes, or only shows them.
        now: Redis's time at the first start of the run, in Unix seconds.
        advance: is called with the number of entries or tasks of each page.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        options: BackfillOptions,
        changer: Changer,
        *,
        now: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._policy = policy
        self._filter = options.filter
        self._orphans_wanted = options.orphans is not Orphans.LEAVE
        self._decider = Decider(policy, options, now)
        self._changer = changer
        self._advance = advance
        self.seen: Counter[str] = Counter()
        """What was met: `tasks` in terminal indexes, how many of them are `timed` or `unreadable`; `ghosts`, `orphans`,
        and `halves` (hashes without a message that are in no index)."""

    def size(self, queues: Sequence[str]) -> int:
        """Return about how many entries and keys the walks will read."""
        total = sum(place.length for place in self._indexes(queues))
        if self._orphans_wanted:
            total += self._database.size() or 0
        return total

    def run(self, queues: Sequence[str], position: Sequence[str | int] = ()) -> None:
        """Walk through the queues.

        Args:
            queues: all there are.
            position: what `Changer.resume` returned; nothing for a new run.
        """
        indexes = [] if position and position[0] == "scan" else self._indexes(queues)
        after = START
        if position and position[0] == "index":
            _, queue, state, score, task_id = map(str, position)
            places = [(place.queue, place.name) for place in indexes]
            if (queue, state) in places:
                indexes = indexes[places.index((queue, state)) :]
                after = (score.encode(), task_id.encode("utf-8", "surrogateescape"))
        self._walk_indexes(indexes, after)
        if self._orphans_wanted:
            self._walk_keyspace(position[1] if position and position[0] == "scan" else 0)

    def _indexes(self, queues: Sequence[str]) -> list[Place]:
        """Return the indexes that are walked through, in that order."""
        states = self._filter.states or tuple(TERMINAL)
        chosen = [queue for queue in queues if self._filter.matches_queue(queue)]
        return list(queue_places(self._database, chosen, [state.value for state in _ORDER if state.value in states]))

    def _walk_indexes(self, indexes: Sequence[Place], after: tuple[bytes, bytes]) -> None:
        surplus: dict[Place, int] = {}
        for pages in index_rounds(self._database, indexes, "digest", after):
            changes: list[Change] = []
            for page in pages:
                if page.place not in surplus:
                    surplus[page.place] = self._surplus(page.place)
                changes += self._page_changes(page, surplus)
            first = pages[0]
            position = (first.place.queue, first.place.name, first.after[0].decode(), text_of(first.after[1]))
            self._changer.make(changes, ("index", *position))
            for page in pages:
                self._count(page.entries, State(page.place.name))
                self._advance(len(page.entries))
                if not page.entries:
                    del surplus[page.place]

    def _page_changes(self, page: IndexPage, surplus: dict[Place, int]) -> Iterator[Change]:
        """Yield what is done to the entries of a page; each that is trimmed makes the surplus of its index smaller."""
        state = State(page.place.name)
        for entry in page.entries:
            change = self._decider.entry(entry, state)
            trimmed = self._decider.trim(entry, state) if surplus[page.place] > 0 and not removes(change) else None
            surplus[page.place] -= trimmed is not None
            change = trimmed or change
            if change is not None:
                yield change

    def _count(self, page: list[Entry], state: State) -> None:
        for entry in page:
            ghost = bool(ghost_reason(entry, state))
            self.seen["ghosts" if ghost else "tasks"] += 1
            self.seen["timed"] += not ghost and entry.task.ttl_ms >= 0
            if not ghost and entry.task.record is None:
                self.seen["unreadable"] += 1
                self._database.left_out.add_unreadable()

    def _surplus(self, place: Place) -> int:
        """Return how many entries an archive is over its `max`, once the policy has removed what it removes."""
        limits = self._policy.archive_limits(place.queue) if place.name == State.ARCHIVED.value else None
        if limits is None or limits.cap is None or self._filter.types:
            return 0
        cap = limits.cap if self._policy.enforces_all else max(limits.cap, OWN_ARCHIVE_CAP)
        surplus = place.length - cap
        if surplus <= 0:
            return 0
        for page in index_pages(self._database, place):
            surplus -= sum(removes(self._decider.entry(entry, State.ARCHIVED)) for entry in page)
            if surplus <= 0:
                return 0
        return surplus

    def _walk_keyspace(self, cursor: Cursor) -> None:
        """Walk through the keyspace for hashes that are in no index."""
        start = cursor
        for following, page in task_pages(self._database, "digest", cursor):
            found = (self._orphan_change(task) for task in page if self._filter.matches_queue(task.queue))
            self._changer.make([change for change in found if change is not None], ("scan", start))
            start = following
            self._advance(len(page))

    def _orphan_change(self, task: Task) -> Change | None:
        """Count a hash that is in no index, and return what is done to it; None where it is in one, or nothing is."""
        if not task.nowhere or (self._filter.states and task.state not in self._filter.states):
            return None
        if task.size == 0 and (task.state in TERMINAL or not task.state):
            self.seen["halves"] += 1
            return self._decider.half(task)
        if task.state not in TERMINAL:
            return None
        self.seen["orphans"] += 1
        if task.record is None:
            self._database.left_out.add_unreadable()
        return self._decider.orphan(task)
