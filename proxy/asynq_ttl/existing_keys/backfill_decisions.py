"""Decides what a backfill does to an entry of a terminal index, and to a hash that is in none. Pure.

Walks nowhere and changes nothing: entries and tasks come in as they were read, `Change`s go out.

Invariants:

* Only tasks in a terminal state are changed, and hashes that are no task: those without a message.
* What a rule keeps for ever is neither trimmed nor deleted as an orphan. A task that is held is not changed at all.
"""

from dataclasses import dataclass, field
from enum import Enum

from asynq_ttl.asynq.task import Entry, Task
from asynq_ttl.existing_keys.changes import Change, change_of
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.standing import TERMINAL, standing_of
from asynq_ttl.policy.plan import Act, Plan, plan, verdict_of
from asynq_ttl.policy.rules import Keep, Policy, State


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
class BackfillOptions:
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
    filter: TaskFilter = field(default_factory=TaskFilter)


class Decider:
    """Decides for one run.

    Args:
        policy: the policy.
        options: what the backfill is asked to do.
        now: Redis's time at the first start of the run, in Unix seconds.
    """

    def __init__(self, policy: Policy, options: BackfillOptions, now: int) -> None:
        self._policy = policy
        self._options = options
        self._now = now

    def entry(self, entry: Entry, state: State) -> Change | None:
        """Return what is done to an entry of a state's index and to its task; None where nothing is."""
        task = entry.task
        if reason := ghost_reason(entry, state):
            if self._options.ghosts is Ghosts.LEAVE or self._options.filter.types:
                return None
            act = Act.REMOVE if task.state == state.value else Act.DROP
            return change_of(task, Plan(act, "", reason), index=state.value, score=entry.score, timed="any")
        if task.hold is not None or task.record is None or not self._options.filter.matches(task):
            return None
        planned, timed = self._plan(task, state)
        if planned is None:
            return None
        return change_of(task, planned, index=state.value, score=entry.score, timed=timed)

    def trim(self, entry: Entry, state: State) -> Change | None:
        """Return the change that removes the task of an entry over `max`; None where it is not to be trimmed."""
        task = entry.task
        if task.hold is not None or task.record is None or ghost_reason(entry, state):
            return None
        if not self._policy.enforces(task.id):
            return None
        verdict = verdict_of(self._policy, task.queue, task.type, state)
        if verdict is None or verdict.retention.keep is Keep.FOREVER:
            return None
        cap = self._policy.queue_rules(task.queue, state)[-1]
        planned = Plan(Act.REMOVE, cap.name, f"over max {cap.archived_max}")
        return change_of(task, planned, index=state.value, score=entry.score, timed="any")

    def orphan(self, task: Task) -> Change | None:
        """Return what is done to a task in a terminal state that is in no index; None where nothing is."""
        state = TERMINAL[task.state]
        if task.record is None or not self._options.filter.matches(task):
            return None
        if self._options.orphans is Orphans.TTL:
            planned, timed = self._plan(task, state)
            return None if planned is None else change_of(task, planned, index=state.value, timed=timed)
        verdict = verdict_of(self._policy, task.queue, task.type, state)
        if verdict is not None and verdict.retention.keep is Keep.FOREVER:
            return None
        planned = Plan(Act.REMOVE, verdict.rule if verdict else "", "orphan: in no index")
        return change_of(task, planned, index=state.value, timed="any")

    def half(self, task: Task) -> Change | None:
        """Return what is done to a hash without a message that is in no index. No rule can say how long it is kept."""
        if self._options.orphans is not Orphans.DELETE or self._options.filter.types:
            return None
        planned = Plan(Act.REMOVE, "", "orphan: no message, in no index")
        return change_of(task, planned, index=task.state, score=None if task.state else "", timed="any")

    def _plan(self, task: Task, state: State) -> tuple[Plan | None, str]:
        """Return what the policy plans for a task, and whether its key has a TTL now: `some` or `none`."""
        standing = standing_of(task, state)
        planned = plan(self._policy, standing, self._now, from_now=self._options.from_now)
        return planned, "some" if standing.timed else "none"


def removes(change: Change | None) -> bool:
    """Say whether a change takes an entry out of its index."""
    return change is not None and change.action in (Act.REMOVE.value, Act.DROP.value)


def ghost_reason(entry: Entry, state: State) -> str:
    """Return why an entry of a state's index is a ghost; empty where it is none."""
    task = entry.task
    if task.wrong and not task.exists:
        # Something else than a task is at its key.
        return ""
    if not task.exists:
        return "ghost: there is no such task"
    if task.state != state.value:
        return f"ghost: the task is {task.state or 'in no state'}"
    return "ghost: the task has no message" if task.size == 0 else ""
