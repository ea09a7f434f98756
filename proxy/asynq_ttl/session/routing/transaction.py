"""Where one client's transaction is. Pure.

Invariants:

* A transaction is at one node: that of its first command, or of the keys that are watched.
* `MULTI` goes to a node only with the first command; until then the client has an answer, and no node knows of it.
"""

from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.lane import Lane


class Transaction:
    """The transaction of one client, if it has begun one, and the keys that it watches."""

    def __init__(self) -> None:
        self.open = False
        """Whether the client has said MULTI, and not yet what ends it."""
        self.begin = b""
        """The MULTI, as it came."""
        self.lane: Lane | None = None
        """Where a node knows of the transaction; None while none does."""
        self.watched: Lane | None = None
        """Where keys are watched."""
        self._first: Errand | None = None

    def asked(self, begin: bytes) -> None:
        """Take note of MULTI."""
        self.open, self.begin = True, begin

    def began(self, lane: Lane | None) -> None:
        """Take note of where a node knows of it; None where that one no longer does."""
        self.lane = lane

    def is_first(self, errand: Errand) -> bool:
        """Say whether a command is the first one in it: it is, if none was asked about before."""
        if self.open and self._first is None:
            self._first = errand
        return self._first is errand

    def watch(self, lane: Lane) -> None:
        """Take note of where keys are watched."""
        self.watched = lane

    def needs(self, lane: Lane) -> bool:
        """Say whether it is lost with a lane."""
        return lane in (self.lane, self.watched)

    def end(self) -> None:
        """Take note of EXEC, or of what else ends it: nothing is watched then either."""
        self.open, self.begin = False, b""
        self.lane = self.watched = self._first = None
