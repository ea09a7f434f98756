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


@dataclass(frozen=True, slots=True)
class Count:
    """A number of tasks, and how many bytes their messages have."""

    tasks: int = 0
    size_bytes: int = 0


class TaskCounts:
    """Counts tasks by their kinds."""

    def __init__(self) -> None:
        # Pairs of tasks and bytes: each task that ends is counted, and a call for it takes several times as long.
        self._kinds: dict[Kind, list[int]] = {}
        self._others = [0, 0]

    @property
    def kinds(self) -> dict[Kind, Count]:
        """The tasks of each kind."""
        return {kind: Count(*pair) for kind, pair in self._kinds.items()}

    @property
    def others(self) -> Count:
        """Tasks that are not told apart: bulk operations, whose types are not known, and kinds past the limit."""
        return Count(*self._others)

    def add(self, decision: Decision, moved: int) -> None:
        """Count the tasks of a decision.

        Args:
            decision: what was decided.
            moved: how many tasks a bulk operation has moved.
        """
        if decision.own_seconds is None:
            if decision.state == "archived":
                self._others[0] += moved
            return
        pair = self.pair((decision.queue, decision.task_type, decision.state, decision.own_seconds))
        pair[0] += 1
        pair[1] += decision.size_bytes

    def pair(self, kind: Kind) -> list[int]:
        """Return the numbers of tasks and of bytes of a kind, for counting."""
        pair = self._kinds.get(kind)
        if pair is None:
            full = len(self._kinds) >= MAX_KINDS or len(kind[0]) + len(kind[1]) > MAX_TEXT
            pair = self._others if full else self._kinds.setdefault(kind, [0, 0])
        return pair
