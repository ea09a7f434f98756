"""What `init` counts of ended tasks besides an audit: by type, and how many have ended long ago. Pure.

Invariant: memory is bounded: types beyond `MOST_TYPES` are counted together, and numbers by queue and state hold all.
"""

from dataclasses import dataclass, field

from asynq_ttl.asynq.task import Task, ended_at
from asynq_ttl.existing_keys.audit.tasks import content_bytes
from asynq_ttl.existing_keys.standing import TERMINAL

MOST_TYPES = 2_000
AGES = {"1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
"""The times that are suggested, in seconds by how a policy writes them."""


@dataclass(slots=True)
class Volume:
    """Tasks, and the bytes of their messages and results."""

    tasks: int = 0
    content: int = 0

    def add(self, content: int) -> None:
        """Count a task."""
        self.tasks += 1
        self.content += content


@dataclass(slots=True)
class Ended:
    """Ended tasks of one queue and state, or of one type among them.

    Attributes:
        all: all of them.
        oldest: how many seconds ago the first of them ended.
        older: those that a retention would remove at once, by that retention as in `AGES`.
    """

    all: Volume = field(default_factory=Volume)
    oldest: int = 0
    older: dict[str, Volume] = field(default_factory=lambda: {age: Volume() for age in AGES})

    def add(self, content: int, age_seconds: int | None, *, stays: bool) -> None:
        """Count a task.

        Args:
            content: the bytes of its message and result.
            age_seconds: how long ago it ended; None where nobody knows.
            stays: whether no retention would remove it.
        """
        self.all.add(content)
        if age_seconds is None:
            return
        self.oldest = max(self.oldest, age_seconds)
        for age, seconds in AGES.items():
            if age_seconds >= seconds and not stays:
                self.older[age].add(content)


class TypeCensus:
    """Counts ended tasks.

    Attributes:
        states: by queue and state.
        types: by queue, state and type.
        more_types: how many tasks are of types that are not told apart.
    """

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], Ended] = {}
        self.types: dict[tuple[str, str, str], Ended] = {}
        self.more_types = 0

    def count(self, task: Task, now: int) -> None:
        """Count a task, if it has ended and its message can be read.

        Args:
            task: the task.
            now: Redis's time in Unix seconds.
        """
        if task.state not in TERMINAL or task.record is None:
            return
        of_type = task.queue, task.state, task.type
        found = [self.states.setdefault((task.queue, task.state), Ended())]
        if of_type in self.types or len(self.types) < MOST_TYPES:
            found.append(self.types.setdefault(of_type, Ended()))
        else:
            self.more_types += 1
        content, since = content_bytes(task), ended_at(task)
        # What is held, or in no index, stays whatever a policy says.
        stays = task.hold is not None or task.score is None
        for ended in found:
            ended.add(content, now - since if since > 0 else None, stays=stays)
