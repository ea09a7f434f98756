"""The states of Asynq's tasks, and how a task that was read stands before the policy. Pure."""

from asynq_ttl.asynq.task import Task, ended_at, seconds_of
from asynq_ttl.policy.plan import Standing
from asynq_ttl.policy.rules import State

TERMINAL = {state.value: state for state in State}
"""The states in which a task stays until somebody removes it, by Asynq's names."""
LIVE = ("pending", "active", "scheduled", "retry", "aggregating")
"""The states in which a task still has to run."""


def standing_of(task: Task, state: State) -> Standing:
    """Return what the policy has to know of a task to plan for it.

    Args:
        task: the task.
        state: the terminal state it is in.
    """
    record = task.record
    score = None if task.score is None else seconds_of(task.score)
    own = record.retention if record else 0
    return Standing(task.queue, task.id, task.type, state, ended_at(task), score, own, task.ttl_ms >= 0)
