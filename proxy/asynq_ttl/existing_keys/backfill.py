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
from collections.abc import Callable, Sequence

from asynq_ttl.asynq.keys import index_key, text_of
from asynq_ttl.asynq.task import Entry, Task
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Decider, Orphans, ghost_reason, removes
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import START, index_pages, task_pages
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
        total = sum(self._database.client.zcard(index_key(*index)) for index in self._indexes(queues))
        if self._orphans_wanted:
            total += self._database.size() or 0
        return total

    def run(self, queues: Sequence[str], position: Sequence[str | int] = ()) -> None:
        """Walk through the queues.

        Args:
            queues: all there are.
            position: what `Changer.resume` returned; nothing for a new run.
        """
        indexes = self._indexes(queues)
        after = START
        if position and position[0] == "index":
            _, queue, state, score, task_id = map(str, position)
            if (queue, state) in indexes:
                indexes = indexes[indexes.index((queue, state)) :]
                after = (score.encode(), task_id.encode("utf-8", "surrogateescape"))
        elif position:
            indexes = []
        for queue, state in indexes:
            self._walk_index(queue, TERMINAL[state], after)
            after = START
        if self._orphans_wanted:
            self._walk_keyspace(int(position[1]) if position and position[0] == "scan" else 0)

    def _indexes(self, queues: Sequence[str]) -> list[tuple[str, str]]:
        """Return queue and state of the indexes that are walked through, in that order."""
        states = self._filter.states or tuple(TERMINAL)
        chosen = (queue for queue in queues if self._filter.matches_queue(queue))
        return [(queue, state.value) for queue in chosen for state in _ORDER if state.value in states]

    def _walk_index(self, queue: str, state: State, after: tuple[bytes, bytes]) -> None:
        surplus = self._surplus(queue) if state is State.ARCHIVED else 0
        for page in index_pages(self._database, queue, state.value, "digest", after):
            changes: list[Change] = []
            for entry in page:
                change = self._decider.entry(entry, state)
                trimmed = self._decider.trim(entry, state) if surplus > 0 and not removes(change) else None
                surplus -= trimmed is not None
                change = trimmed or change
                if change is not None:
                    changes.append(change)
            self._changer.make(changes, ("index", queue, state.value, after[0].decode(), text_of(after[1])))
            self._count(page, state)
            if page:
                after = (page[-1].score, page[-1].task.id)
            self._advance(len(page))

    def _count(self, page: list[Entry], state: State) -> None:
        for entry in page:
            ghost = bool(ghost_reason(entry, state))
            self.seen["ghosts" if ghost else "tasks"] += 1
            self.seen["timed"] += not ghost and entry.task.ttl_ms >= 0
            self.seen["unreadable"] += not ghost and entry.task.record is None

    def _surplus(self, queue: str) -> int:
        """Return how many entries an archive is over its `max`, once the policy has removed what it removes."""
        limits = self._policy.archive_limits(queue)
        if limits is None or limits.cap is None or self._filter.types:
            return 0
        cap = limits.cap if self._policy.enforces_all else max(limits.cap, OWN_ARCHIVE_CAP)
        surplus = int(self._database.client.zcard(index_key(queue, State.ARCHIVED.value))) - cap
        if surplus <= 0:
            return 0
        for page in index_pages(self._database, queue, State.ARCHIVED.value):
            surplus -= sum(removes(self._decider.entry(entry, State.ARCHIVED)) for entry in page)
            if surplus <= 0:
                return 0
        return surplus

    def _walk_keyspace(self, cursor: int) -> None:
        """Walk through the keyspace for hashes that are in no index."""
        start = cursor
        for following, page in task_pages(self._database, "digest", cursor):
            by_queue: dict[str, list[Change]] = {}
            for task in page:
                change = self._orphan_change(task) if self._filter.matches_queue(task.queue) else None
                if change is not None:
                    by_queue.setdefault(task.queue, []).append(change)
            for changes in by_queue.values():
                self._changer.make(changes, ("scan", start))
            start = following
            self._advance(len(page))

    def _orphan_change(self, task: Task) -> Change | None:
        """Count a hash that is in no index, and return what is done to it; None where it is in one, or nothing is."""
        if task.score is not None or (self._filter.states and task.state not in self._filter.states):
            return None
        if task.size == 0 and (task.state in TERMINAL or not task.state):
            self.seen["halves"] += 1
            return self._decider.half(task)
        if task.state not in TERMINAL:
            return None
        self.seen["orphans"] += 1
        return self._decider.orphan(task)
