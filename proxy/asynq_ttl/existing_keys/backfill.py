"""Gives terminal tasks that have no TTL the one their policy says, and clears away ghosts and orphans where wanted.

Two walks: through every queue's terminal indexes, oldest first, and, for orphans, through the keyspace.

Invariants:

* Only tasks in a terminal state are changed, and hashes that are no task: those without a state and a message.
* A run that is interrupted and goes on comes to the same end as one that ran through: what has been done needs nothing
  more to be done, and `now` stays the time of the first start.
* `max` keeps the newest: what is over it goes, oldest first, counting only what the policy leaves in the archive. Tasks
  that a rule keeps for ever are never trimmed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from asynq_ttl.asynq.keys import index_key, text_of
from asynq_ttl.asynq.task import Entry, Task, ended_at, seconds_of
from asynq_ttl.existing_keys.changes import Change, Changer, change_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import START, Filter, index_pages, task_pages
from asynq_ttl.policy.plan import Act, Plan, Standing, plan, verdict_of
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Keep, Policy, State

_STATES = {state.value: state for state in State}
_ORDER = (State.ARCHIVED, State.COMPLETED)


class Orphans(Enum):
    """What is done to hashes in a terminal state that are in no index."""

    LEAVE = "leave"
    TTL = "ttl"
    DELETE = "delete"


class Ghosts(Enum):
    """What is done to entries of terminal indexes whose task is gone, or in another state, or has no message."""

    LEAVE = "leave"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Wish:
    """What a backfill is asked to do.

    Attributes:
        orphans: what is done to orphans.
        ghosts: what is done to ghosts.
        from_now: count from the start of the run, not from when a task entered its state.
        filter: which tasks are concerned.
    """

    orphans: Orphans = Orphans.LEAVE
    ghosts: Ghosts = Ghosts.LEAVE
    from_now: bool = False
    filter: Filter = field(default_factory=Filter)


class Backfill:
    """One run.

    Args:
        database: where.
        policy: the policy.
        wish: what is asked.
        changer: who makes the changes, or only tells them.
        now: Redis's time at the first start of the run, in Unix seconds.
        advance: is told how many entries and keys have been looked at.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        wish: Wish,
        changer: Changer,
        *,
        now: int,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._policy = policy
        self._wish = wish
        self._changer = changer
        self._now = now
        self._advance = advance
        self.seen: Counter[str] = Counter()
        """What was met: `tasks` in terminal indexes, those of them `timed` already, `ghosts`, `orphans`, `halves`
        (hashes without a message that are in no index), `unreadable`."""

    def size(self, queues: Sequence[str]) -> int:
        """Return about how many entries and keys there are to look at."""
        total = sum(self._database.client.zcard(index_key(*index)) for index in self._indexes(queues))
        if self._wish.orphans is not Orphans.LEAVE:
            total += self._database.client.dbsize()
        return total

    def run(self, queues: Sequence[str], position: Sequence[str | int] = ()) -> None:
        """Walk through the queues, from where an interrupted run stands.

        Args:
            queues: all there are.
            position: what `Changer.resume` returned.
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
            self._index(queue, _STATES[state], after)
            after = START
        if self._wish.orphans is not Orphans.LEAVE:
            self._orphans(int(position[1]) if position and position[0] == "scan" else 0)

    def _indexes(self, queues: Sequence[str]) -> list[tuple[str, str]]:
        states = self._wish.filter.states or tuple(_STATES)
        chosen = (queue for queue in queues if self._wish.filter.queue(queue))
        return [(queue, state.value) for queue in chosen for state in _ORDER if state.value in states]

    def _index(self, queue: str, state: State, after: tuple[bytes, bytes]) -> None:
        """Walk through one index."""
        surplus = self._surplus(queue) if state is State.ARCHIVED else 0
        for page in index_pages(self._database, queue, state.value, "digest", after):
            changes: list[Change] = []
            for entry in page:
                change = self._entry_change(entry, state)
                if change is None or change.action not in (Act.REMOVE.value, Act.DROP.value):
                    over = self._trimmed(entry, state) if surplus > 0 else None
                    if over is not None:
                        surplus -= 1
                        change = over
                if change is not None:
                    changes.append(change)
            self._changer.make(changes, ("index", queue, state.value, after[0].decode(), text_of(after[1])))
            self._count(page, state)
            if page:
                after = (page[-1].score, page[-1].task.id)
            self._advance(len(page))

    def _count(self, page: list[Entry], state: State) -> None:
        for entry in page:
            ghost = _ghost(entry, state)
            self.seen["ghosts" if ghost else "tasks"] += 1
            self.seen["timed"] += not ghost and entry.task.ttl_ms >= 0
            self.seen["unreadable"] += not ghost and entry.task.record is None

    def _entry_change(self, entry: Entry, state: State) -> Change | None:
        """Return what is done to an entry and its task; None where nothing is."""
        task = entry.task
        if reason := _ghost(entry, state):
            if self._wish.ghosts is Ghosts.LEAVE or self._wish.filter.types:
                return None
            act = Act.REMOVE if task.state == state.value else Act.DROP
            return change_of(task, Plan(act, "", reason), index=state.value, score=entry.score, timed="any")
        if task.record is None or not self._wish.filter.matches(task):
            return None
        standing = _standing(task, state, seconds_of(entry.score))
        planned = plan(self._policy, standing, self._now, from_now=self._wish.from_now)
        if planned is None:
            return None
        timed = "some" if standing.timed else "none"
        return change_of(task, planned, index=state.value, score=entry.score, timed=timed)

    def _surplus(self, queue: str) -> int:
        """Return how many entries of an archive are over its `max`, once the policy has removed what it removes."""
        limits = self._policy.archive_limits(queue)
        if limits is None or limits.cap is None or self._wish.filter.types:
            return 0
        cap = limits.cap if self._policy.enforces_all else max(limits.cap, OWN_ARCHIVE_CAP)
        surplus = int(self._database.client.zcard(index_key(queue, State.ARCHIVED.value))) - cap
        if surplus <= 0:
            return 0
        for page in index_pages(self._database, queue, State.ARCHIVED.value):
            for entry in page:
                change = self._entry_change(entry, State.ARCHIVED)
                surplus -= change is not None and change.action in (Act.REMOVE.value, Act.DROP.value)
            if surplus <= 0:
                return 0
        return surplus

    def _trimmed(self, entry: Entry, state: State) -> Change | None:
        """Return the change that removes a task over `max`; None where it is not to be trimmed."""
        task = entry.task
        if task.record is None or _ghost(entry, state) or not self._policy.enforces(task.id):
            return None
        verdict = verdict_of(self._policy, task.queue, task.type, state)
        if verdict is None or verdict.retention.keep is Keep.FOREVER:
            return None
        cap = self._policy.queue_rules(task.queue, state)[-1]
        planned = Plan(Act.REMOVE, cap.name, f"over max {cap.archived_max}")
        return change_of(task, planned, index=state.value, score=entry.score, timed="any")

    def _orphans(self, cursor: int) -> None:
        """Walk through the keyspace for hashes that are in no index."""
        start = cursor
        for following, page in task_pages(self._database, "digest", cursor):
            by_queue: dict[str, list[Change]] = {}
            for task in page:
                if not self._wish.filter.queue(task.queue):
                    continue
                change = self._orphan_change(task)
                if change is not None:
                    by_queue.setdefault(task.queue, []).append(change)
            for changes in by_queue.values():
                self._changer.make(changes, ("scan", start))
            start = following
            self._advance(len(page))

    def _orphan_change(self, task: Task) -> Change | None:
        """Return what is done to a hash if it is an orphan; None where it is none, or stays."""
        if task.score is not None or (self._wish.filter.states and task.state not in self._wish.filter.states):
            return None
        state = _STATES.get(task.state)
        if task.size == 0 and (state or not task.state):
            return self._half_change(task)
        if state is None:
            return None
        self.seen["orphans"] += 1
        if task.record is None or not self._wish.filter.matches(task):
            return None
        planned, timed = self._orphan_plan(task, state)
        return None if planned is None else change_of(task, planned, index=state.value, timed=timed)

    def _orphan_plan(self, task: Task, state: State) -> tuple[Plan | None, str]:
        """Return what is done to an orphan, and what has to be so of its TTL. What a rule keeps for ever stays."""
        if self._wish.orphans is Orphans.TTL:
            standing = _standing(task, state, None)
            planned = plan(self._policy, standing, self._now, from_now=self._wish.from_now)
            return planned, "some" if standing.timed else "none"
        verdict = verdict_of(self._policy, task.queue, task.type, state)
        if verdict is not None and verdict.retention.keep is Keep.FOREVER:
            return None, ""
        return Plan(Act.REMOVE, verdict.rule if verdict else "", "orphan: in no index"), "any"

    def _half_change(self, task: Task) -> Change | None:
        """Return what is done to a hash without a message that is in no index. No rule can say how long it is kept."""
        self.seen["halves"] += 1
        if self._wish.orphans is not Orphans.DELETE or self._wish.filter.types:
            return None
        planned = Plan(Act.REMOVE, "", "orphan: no message, in no index")
        return change_of(task, planned, index=task.state, score=None if task.state else "", timed="any")


def _ghost(entry: Entry, state: State) -> str:
    """Return why an entry of a state's index is a ghost; empty where it is none."""
    task = entry.task
    if not task.exists:
        return "ghost: there is no such task"
    if task.state != state.value:
        return f"ghost: the task is {task.state or 'in no state'}"
    return "ghost: the task has no message" if task.size == 0 else ""


def _standing(task: Task, state: State, score: int | None) -> Standing:
    """Return a task as the policy looks at it."""
    record = task.record
    own = record.retention if record else 0
    return Standing(task.queue, task.id, task.type, state, ended_at(task), score, own, task.ttl_ms >= 0)
