"""What a run could not look at, or left alone, although it was asked to: named, counted, and told at the end. Pure.

Invariant: a run that left something out is not whole. Who runs it says so by its exit status.
"""

from collections.abc import Container

from asynq_ttl.asynq.keys import AMBIGUOUS, printable, text_of

# So many names are kept, to count each once and to show some; what is beyond is counted as often as it is met.
_MOST_NAMES = 10_000
_SHOWN = 5


class LeftOut:
    """Collects it."""

    def __init__(self) -> None:
        self.unreadable = 0
        """Tasks whose message cannot be read."""
        self._wrong: dict[str, None] = {}
        self._ambiguous: dict[str, None] = {}
        self._unread: dict[str, None] = {}
        self._moving: dict[str, None] = {}
        self._more = 0

    def __bool__(self) -> bool:
        return bool(self.unreadable or self._wrong or self._ambiguous or self._more or self.elsewhere)

    @property
    def elsewhere(self) -> bool:
        """Whether something of a cluster was left out that the same run may find later."""
        return bool(self._unread or self._moving)

    @property
    def unread(self) -> list[str]:
        """Nodes of a cluster that cannot be read, each with the reason."""
        return list(self._unread)

    @property
    def moving(self) -> list[str]:
        """Queues of a cluster whose slots are on their way to another node, or have moved meanwhile."""
        return list(self._moving)

    @property
    def moving_names(self) -> Container[str]:
        """The same, to look one up."""
        return self._moving

    @property
    def wrong(self) -> list[str]:
        """Keys of another type than Asynq has at their place."""
        return list(self._wrong)

    @property
    def wrong_names(self) -> Container[str]:
        """The same, to look one up."""
        return self._wrong

    @property
    def ambiguous(self) -> list[str]:
        """Names of queues, and keys of tasks, that can be read as those of another queue."""
        return list(self._ambiguous)

    def add_unreadable(self) -> None:
        """Count a task whose message cannot be read."""
        self.unreadable += 1

    def add_wrong(self, key: bytes) -> None:
        """Take down a key of another type than Asynq has at its place."""
        self._add(self._wrong, text_of(key))

    def add_ambiguous(self, name: str) -> None:
        """Take down the name of a queue, or the key of a task, that can be read as one of another queue."""
        self._add(self._ambiguous, name)

    def add_unread(self, node: str) -> None:
        """Take down a node of a cluster that cannot be read, with the reason."""
        self._add(self._unread, node)

    def add_moving(self, queue: str) -> None:
        """Take down a queue of a cluster whose slot is on its way to another node."""
        self._add(self._moving, queue)

    def notes(self) -> list[str]:
        """Return what was left out, a line for each kind of it."""
        lines = []
        lines += [f"cannot be read, so what it has is not in this: {printable(node)}" for node in self._unread]
        if self._moving:
            lines.append(f"skipped, since their slots are on their way to another node: {_some(self._moving)}")
        if self._wrong:
            lines.append(f"keys of another type than Asynq has there, passed over: {_some(self._wrong)}")
        if self._ambiguous:
            lines.append(
                f"left alone, since a name with {AMBIGUOUS} can be read as another queue's: {_some(self._ambiguous)}"
            )
        if self.unreadable:
            lines.append(f"left out: {self.unreadable:,} tasks whose message cannot be read")
        if self._more:
            lines.append(f"and {self._more:,} keys more of these kinds")
        return lines

    def _add(self, names: dict[str, None], name: str) -> None:
        if name in names:
            return
        if len(names) < _MOST_NAMES:
            names[name] = None
        else:
            self._more += 1


def _some(names: dict[str, None]) -> str:
    shown = ", ".join(printable(name) for name in list(names)[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else shown
