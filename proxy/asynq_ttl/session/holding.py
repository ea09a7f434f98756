"""How many bytes of clients the sidecar may hold, all connections together.

Invariant: what is held of large commands, and of what Redis does not take in, is at most the limit, one chunk of each
connection aside.
"""

DEFAULT_MIB = 256


class Room:
    """Room for bytes that are held.

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
