"""What is held of large commands: which ones, and how many bytes, all connections together.

A large command is held until it is whole only if it may have to be rewritten; who knows that is asked. Whatever is not
held goes on in pieces as it comes.

Invariant: what is held of large commands, and of what Redis does not take in, is at most the limit, one chunk of each
connection aside.
"""

from collections.abc import Callable

from asynq_ttl.events import FailOpen
from asynq_ttl.wire.commands import HOLD_BYTES, MAX_HELD_BYTES, Command

DEFAULT_MIB = 256


class Room:
    """Room for bytes that are held. Shared by all sessions.

    Args:
        limit_bytes: how many there may be.
    """

    __slots__ = ("limit_bytes", "taken_bytes")

    def __init__(self, limit_bytes: int = DEFAULT_MIB * 1024 * 1024) -> None:
        self.limit_bytes = limit_bytes
        self.taken_bytes = 0
        """How many there are."""

    def take(self, size: int) -> bool:
        """Take room for so many bytes; return False, and take none, if there is not enough."""
        if self.taken_bytes + size > self.limit_bytes:
            return False
        self.taken_bytes += size
        return True

    def give_back(self, size: int) -> None:
        """Give back what was taken."""
        self.taken_bytes -= size


class Holding:
    """The large commands of one client.

    Args:
        room: where room is taken.
        may_be_rewritten: given the leading arguments of a command, says whether it may have to be rewritten.
        fail_open: told of a command that goes on in pieces although it may have to be rewritten: a reason, what exactly
            in words, and what has come of its KEYS.
    """

    __slots__ = ("_fail_open", "_may_be_rewritten", "_room", "taken_bytes")

    def __init__(
        self,
        room: Room,
        may_be_rewritten: Callable[[Command], bool],
        fail_open: Callable[[FailOpen, str, Command], None],
    ) -> None:
        self.taken_bytes = 0
        """The room that a large command has; the relay says when to give it back."""
        self._room = room
        self._may_be_rewritten = may_be_rewritten
        self._fail_open = fail_open

    def must_hold(self, head: Command, size: int) -> bool:
        """Say whether a large command has to be seen whole, and take room for it then.

        It is asked again before the command has become twice as long, so there is room for that.

        Args:
            head: its leading arguments.
            size: how many bytes of it have come.
        """
        try:
            if not self._may_be_rewritten(head):
                return False
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the sidecar, the command goes on
            self._fail_open(FailOpen.INTERNAL, f"{type(error).__name__}: {error}", head[3:])
            return False
        more = max(2 * size - self.taken_bytes, 0)
        if size >= MAX_HELD_BYTES or not self._room.take(more):
            why = "" if size >= MAX_HELD_BYTES else ", and there is no room for more: see --max-held-mib"
            self._fail_open(FailOpen.SIZE, f"a script call of more than {size} bytes{why}", head[3:])
            return False
        self.taken_bytes += more
        return True

    def give_back(self, held_bytes: int) -> None:
        """Give back the room of a command that has gone on, unless so much is held that it is the room of another."""
        if held_bytes < HOLD_BYTES:
            self._room.give_back(self.taken_bytes)
            self.taken_bytes = 0
