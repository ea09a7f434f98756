"""What one client has sent and no node has got yet. Pure.

Invariant: what is in it is bounded, one chunk of the client aside: while it is full, nothing is read from the client.
"""

from collections import deque
from collections.abc import Callable

from asynq_ttl.session.routing.errand import Errand

# Past this nothing is read from the client. (Security limits.)
_MAX_COMMANDS = 1_000
_MAX_BYTES = 256 * 1024


class Backlog(deque[Errand]):
    """Commands that wait, and those that are answered but not yet in their turn."""

    def __init__(self) -> None:
        super().__init__()
        self._full = False

    @property
    def bytes(self) -> int:
        """The size of what waits."""
        return sum([len(errand.data) for errand in self])

    def weigh(self, hold: Callable[[bool], None]) -> None:
        """Have nothing more read from the client while it is full; `hold` is told when that changes."""
        full = len(self) > _MAX_COMMANDS or self.bytes > _MAX_BYTES
        if full is not self._full:
            self._full = full
            hold(full)
