"""What a policy says about a task that is in a terminal state already. Pure.

The sidecar decides when a task enters a state; this decides the same thing later, so both have to agree.

Invariants:

* For a task without a TTL it comes to what the sidecar would have set when the task entered its state: the same time at
  which the key expires, and the same score.
* What is due goes the way the sweeper would take it; nothing live is ever the subject of a `Plan`.
* It depends on the policy, the task and the time passed in, and on nothing else.
"""

from dataclasses import dataclass
from enum import Enum

from asynq_ttl.policy.rules import (
    FOREVER_RETENTION,
    FOREVER_SCORE,
    OWN_ARCHIVE_SECONDS,
    SCHEDULER_HISTORY,
    UNMATCHED,
    Keep,
    Policy,
    Retention,
    State,
    Verdict,
)
from asynq_ttl.times import moment

# No clock says so: the score is damaged, and Redis could not hold the time in milliseconds.
_LATEST = 2**42


class Act(Enum):
    """What is done to a task."""

    TTL = "ttl"
    """Its key gets a TTL."""
    PERSIST = "persist"
    """Its key loses its TTL."""
    REMOVE = "remove"
    """Key, index entry and uniqueness lock go."""
    DROP = "drop"
    """Only the index entry goes: it is a ghost."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A task in a terminal state.

    Attributes:
        queue: the queue's name.
        id: the task's ID.
        type: its type.
        state: the state it is in.
        since: when it died or completed, in Unix seconds; 0 where nobody knows.
        score: its score in the index; None where it is in none.
        retention_seconds: its own Retention.
        timed: whether its key has a TTL.
    """

    queue: str
    id: bytes
    type: str
    state: State
    since: int
    score: int | None
    retention_seconds: int
    timed: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to a task, and why.

    Attributes:
        act: what.
        rule: the rule that decided.
        reason: why, in a few words.
        expires_at: when its key expires, in Unix seconds; only for `Act.TTL`.
        score: its new score in the index; None where that stays.
    """

    act: Act
    rule: str
    reason: str
    expires_at: int | None = None
    score: int | None = None


def verdict_of(policy: Policy, queue: str, task_type: str, state: State) -> Verdict | None:
    """Return the verdict about a task; None where Asynq alone decides.

    Where no rule matches, but another rule of the queue keeps archived tasks for longer than Asynq would, the sidecar
    takes over Asynq's own trims, so the task gets Asynq's own time from its key.
    """
    verdict = policy.decide(queue, task_type, state)
    if verdict is None and state is State.ARCHIVED:
        limits = policy.archive_limits(queue)
        if limits is not None and limits.outlasts(OWN_ARCHIVE_SECONDS):
            return Verdict(UNMATCHED, Retention(Keep.OWN))
    return verdict


def plan(policy: Policy, task: Standing, now: int, *, from_now: bool = False) -> Plan | None:
    """Return what a policy wants done to a task; None where nothing is.

    Args:
        policy: the policy. Its mode is not looked at, its rollout is.
        task: the task.
        now: Redis's time in Unix seconds.
        from_now: count from now instead of from when the task entered its state.
    """
    verdict = verdict_of(policy, task.queue, task.type, task.state) if policy.enforces(task.id) else None
    if verdict is None:
        return None
    kept_done = task.state is State.COMPLETED and task.retention_seconds == FOREVER_RETENTION
    if verdict.retention.keep is Keep.FOREVER or kept_done:
        return _for_ever(task, verdict.rule)
    if task.timed:
        return None
    if verdict.retention.keep is Keep.DELETE:
        return Plan(Act.REMOVE, verdict.rule, "not kept at all")
    own = task.retention_seconds if task.state is State.COMPLETED else OWN_ARCHIVE_SECONDS
    since = now if from_now else task.since or now
    due = since + (verdict.retention.resolve(own) or 0)
    if due <= now:
        return Plan(Act.REMOVE, verdict.rule, f"due since {moment(due)}")
    # Every trim goes by the score: a task that is to be kept from now on has died now.
    score = due if task.state is State.COMPLETED else since if from_now else task.score
    timed = Plan(Act.TTL, verdict.rule, f"due at {moment(due)}", due + policy.grace_seconds, _changed(task, score))
    return timed if due <= _LATEST else None


def plan_history(policy: Policy, entry_id: bytes, newest: int, now: int, *, from_now: bool = False) -> Plan | None:
    """Return what a policy wants done to the history of a scheduler entry that has no TTL; None where nothing is.

    Args:
        policy: the policy. Its mode is not looked at, its rollout is.
        entry_id: the ID of the entry.
        newest: when the scheduler has added to it last, in Unix seconds; 0 where nobody knows.
        now: Redis's time in Unix seconds.
        from_now: count from now instead of from then.
    """
    if policy.scheduler_history is None or not policy.enforces(entry_id):
        return None
    since = min(newest, now) if newest > 0 and not from_now else now
    due = since + policy.scheduler_history
    if due <= now:
        return Plan(Act.REMOVE, SCHEDULER_HISTORY, f"due since {moment(due)}")
    return Plan(Act.TTL, SCHEDULER_HISTORY, f"due at {moment(due)}", due)


def _for_ever(task: Standing, rule: str) -> Plan | None:
    score = _changed(task, FOREVER_SCORE if task.state is State.COMPLETED else task.score)
    return Plan(Act.PERSIST, rule, "kept for ever", score=score) if task.timed or score is not None else None


def _changed(task: Standing, score: int | None) -> int | None:
    """Return the score the task is to have, if it has another one."""
    return score if task.score is not None and score != task.score else None
