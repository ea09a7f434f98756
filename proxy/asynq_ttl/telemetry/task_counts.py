"""How many tasks of each kind have entered a terminal state, so that any policy can be asked what it would do.

Invariant: bounded. Past `MAX_KINDS` kinds, tasks of new ones are counted together.
"""

from dataclasses import dataclass

from asynq_ttl.events import Decision

MAX_KINDS = 2_000
# Tasks with longer queue and type names, together, are not told apart.
MAX_TEXT = 1_024

Kind = tuple[str, str, str, int]
"""Queue, task type, state, and for how many seconds Asynq itself would keep the task."""


@dataclass(slots=True)
class Count:
    """A number of tasks, and how many bytes their messages have."""

    tasks: int = 0
    size_bytes: int = 0

    def add(self, tasks: int, size_bytes: int = 0) -> None:
        """Count more of them."""
        self.tasks += tasks
        self.size_bytes += size_bytes


class TaskCounts:
    """Counts tasks by their kinds."""

    def __init__(self) -> None:
        self.kinds: dict[Kind, Count] = {}
        self.others = Count()
        """Tasks that are not told apart: bulk operations, whose types are not known, and kinds past the limit."""

    def add(self, decision: Decision, moved: int) -> None:
        """Count the tasks of a decision."""
        if decision.own_seconds is None:
            if decision.state == "archived":
                self.others.add(moved)
            return
        key = (decision.queue, decision.task_type, decision.state, decision.own_seconds)
        count = self.kinds.get(key)
        if count is None:
            full = len(self.kinds) >= MAX_KINDS or len(decision.queue) + len(decision.task_type) > MAX_TEXT
            count = self.others if full else self.kinds.setdefault(key, Count())
        count.add(1, decision.size_bytes)
