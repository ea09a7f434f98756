"""How many tasks the sweeper has adopted, by queue, state, rule and mode.

Invariant: bounded. Past a number of sets of labels, those of new ones are counted together.
"""

from collections import Counter

from asynq_ttl.events import Adopted

ADOPTED = "Tasks that ended without a TTL and got one from the sweeper."
ADOPTION_LABELS = ("asynq.queue", "asynq.task.state", "asynq_ttl.rule", "asynq_ttl.mode")
_OVERFLOW = "other"


class Adoptions:
    """Counts adopted tasks.

    Args:
        most: how many sets of labels are told apart.

    Attributes:
        tasks: how many, by the values of `ADOPTION_LABELS`.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.tasks: Counter[tuple[str, str, str, str]] = Counter()

    def add(self, told: Adopted) -> None:
        """Count tasks."""
        mode = "enforce" if told.enforced else "shadow"
        key = (told.queue, told.state.value, told.rule, mode)
        if key not in self.tasks and len(self.tasks) >= self._most:
            key = (_OVERFLOW, told.state.value, _OVERFLOW, mode)
        self.tasks[key] += len(told.ids)

    @property
    def total(self) -> int:
        """How many were given a TTL; those that were only told of do not count."""
        return sum(count for key, count in self.tasks.items() if key[3] == "enforce")
