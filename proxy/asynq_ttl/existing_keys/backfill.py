"""Gives terminal tasks that have no TTL the one their policy says, and removes ghosts and orphans where wanted.

So it does with the histories of scheduler entries, where no queue or type is asked for.

Walks through every queue's terminal indexes, oldest entries first, and, for orphans, through the keyspace. What is done
to each entry and hash, `backfill_decisions` decides.

Invariants:

* A run that is interrupted and goes on ends as one that ran through: a task that was changed needs no more changes, and
  `now` stays the time of the first start.
* `max` keeps the newest tasks of an archive: the oldest go, as many as there are over `max` once the policy has removed
  what it removes. A task that a rule keeps for ever counts, but is never trimmed; one that is held does not count.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from asynq_ttl.asynq.task import Entry, Task
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Decider, Orphans, ghost_reason, removes
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.database import Cursor, Database
from asynq_ttl.existing_keys.holds import held_entries
from asynq_ttl.existing_keys.index_position import position_of, rest_of
from asynq_ttl.existing_keys.pages import IndexPage, index_pages, index_rounds, task_pages
from asynq_ttl.existing_keys.queue_places import Place, queue_places
from asynq_ttl.existing_keys.scheduler_histories import History, begun_at, walk_histories
from asynq_ttl.existing_keys.standing import TERMINAL
from asynq_ttl.policy.plan import Plan, plan_history
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, SCHEDULER_HISTORY, Policy, State

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
        self._now = now
        self._from_now = options.from_now
        self._orphans_wanted = options.orphans is not Orphans.LEAVE
        self._decider = Decider(policy, options, now)
        self._changer = changer
        self._advance = advance
        self.seen: Counter[str] = Counter()
        """What was met: `tasks` in terminal indexes, how many of them are `timed`, `held` or `unreadable`; `ghosts`,
        `orphans`, and `halves` (hashes without a message that are in no index); `histories`, and `timed_histories`."""

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
        self._walk_indexes(*rest_of(self._indexes(queues), position))
        in_histories = position[:1] == (SCHEDULER_HISTORY,)
        if self._orphans_wanted and self._filter.matches_tasks and not in_histories:
            self._walk_keyspace(position[1] if position and position[0] == "scan" else 0)
        if self._filter.matches_histories and self._policy.scheduler_history is not None:
            walk_histories(self._database, self._changer, self._plan_of, begun_at(position), self._advance)

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
            self._changer.make(changes, position_of(pages[0]))
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
            self.seen["held"] += not ghost and entry.task.hold is not None
            if not ghost and entry.task.record is None:
                self.seen["unreadable"] += 1
                self._database.left_out.add_unreadable()

    def _surplus(self, place: Place) -> int:
        """Return how many entries an archive is over its `max`, once the policy has removed what it removes."""
        limits = self._policy.archive_limits(place.queue) if place.name == State.ARCHIVED.value else None
        if limits is None or limits.cap is None or self._filter.types:
            return 0
        cap = limits.cap if self._policy.enforces_all else max(limits.cap, OWN_ARCHIVE_CAP)
        surplus = place.length - held_entries(self._database, place) - cap
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

    def _plan_of(self, history: History) -> Plan | None:
        """Count a history, and return what is done to it; None where nothing is."""
        self.seen["histories"] += 1
        if history.ttl_ms >= 0:
            self.seen["timed_histories"] += 1
            return None
        return plan_history(self._policy, history.entry_id, history.newest, self._now, from_now=self._from_now)
