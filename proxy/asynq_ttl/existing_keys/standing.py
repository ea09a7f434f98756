"""The states of Asynq's tasks, and how a task that was read stands before the policy. Pure."""

from asynq_ttl.asynq.task import Task
from asynq_ttl.policy.plan import Standing
from asynq_ttl.policy.rules import State

TERMINAL = {state.value: state for state in State}
"""The states in which a task stays until somebody removes it, by Asynq's names."""
LIVE = ("pending", "active", "scheduled", "retry", "aggregating")
"""The states in which a task still has to run."""


def standing_of(task: Task, state: State, score: int | None) -> Standing:
    """Return what the policy has to know of a task to plan for it.

    Args:
        task: the task.
        state: the terminal state it is in.
        score: its score in the index of that state, in Unix seconds; None where it is in none.
    """
    record = task.record
    own = record.retention if record else 0
    if state is State.ARCHIVED:
        since = score if score is not None else (record.last_failed_at if record else 0)
    else:
        since = (record.completed_at if record else 0) or (score - own if score is not None else 0)
    return Standing(task.queue, task.id, task.type, state, max(since, 0), score, own, task.ttl_ms >= 0)
