"""Replies on their way to a client that is told other addresses of nodes: what names no node passes as it came. Pure.

It is asked about every reply, so it also has a compiled form (`_passing.c`); where that was not built, the one here is
used. Which replies name nodes it must not know: `renaming` does, and takes whatever does not simply pass.

Invariants:

* What passes is whole replies, each counted, and none of them an error; and only while `quiet`.
* All other bytes are given to `receive_slowly`, in order.
"""

from collections.abc import Callable

from asynq_ttl.wire.replies import count_replies

__all__ = ["Passing"]  # it is imported here

_MINUS = ord("-")


class _Passing:
    """The replies to one client."""

    __slots__ = ("quiet", "replies")

    def __init__(self) -> None:
        self.replies = 0
        """Replies that came."""
        self.quiet = True
        """Whether the next byte is the first of a reply, and no reply is due that names nodes."""

    def receive(self, data: bytes) -> bytes:
        """Take bytes of Redis; return what the client gets, often the very same object."""
        if self.quiet:
            count = count_replies(data)  # nearly always one, and no error
            if count and data[0] != _MINUS and (count == 1 or b"\n-" not in data):
                self.replies += count
                return data
        return self.receive_slowly(data)

    def receive_slowly(self, data: bytes) -> bytes:
        """Return what the client gets for bytes that do not simply pass; a subclass says what."""
        raise NotImplementedError

    def lead_to(self, client: Callable[[bytes], None]) -> Callable[[bytes], None]:
        """Return what takes bytes of Redis, and gives a client what it gets for them."""

        def received(data: bytes) -> None:
            told = self.receive(data)
            if told:
                client(told)

        return received


try:
    from asynq_ttl.session._passing import Passing
except ImportError:  # there was no C compiler when this was installed
    Passing = _Passing  # type: ignore[misc, assignment] # the same in Python
