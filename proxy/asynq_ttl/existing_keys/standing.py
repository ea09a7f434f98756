"""The states of Asynq's tasks, and how a task that was read stands before the policy. Pure."""

from asynq_ttl.asynq.task import Task, ended_at, seconds_of
from asynq_ttl.policy.plan import Standing
from asynq_ttl.policy.rules import TERMINAL as STATES
from asynq_ttl.policy.rules import State

TERMINAL = {state.value: state for state in STATES}
"""The states in which a task stays until somebody removes it, by Asynq's names."""
# Asynq keys tasks as it does since 2021; a clock may be a minute ahead. The sweeper's `adopt.lua` has the same limits.
_EARLIEST, _AHEAD_SECONDS = 1_577_836_800, 60
LIVE = ("pending", "active", "scheduled", "retry", "aggregating")
"""The states in which a task still has to run."""


def is_dated(task: Task, now: int) -> bool:
    """Say whether the sweeper can tell when a terminal task ended: by its score in `archived`, else by its message.

    Args:
        task: the task.
        now: Redis's time in Unix seconds.
    """
    if task.state == State.ARCHIVED.value:
        ended = 0 if task.score is None else seconds_of(task.score)
    else:
        ended = task.record.completed_at if task.record else 0
    return _EARLIEST <= ended <= now + _AHEAD_SECONDS


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
