"""How a client that sends nothing more is seen off. Pure.

Redis hangs up on whoever sends nothing more, and whoever was in a `BLPOP` takes nothing. So the node whose reply
is waited for is told that nothing more comes, if its command may block: it replies to what it can reply to now, and
hangs up.
"""

from collections.abc import Callable, Sized

from asynq_ttl.session.routing.flight import Flight
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.nodes import Outside


class Leaving:
    """The end of one client.

    Args:
        flight: what is under way.
        outside: who has the connections.
        needed: says whether the client cannot go on without a lane.
    """

    __slots__ = "_flight", "_gone", "_needed", "_outside", "_told", "begun"

    def __init__(self, flight: Flight, outside: Outside, needed: Callable[[Lane], bool]) -> None:
        self.begun = False
        """Whether the client sends nothing more."""
        self._flight = flight
        self._outside = outside
        self._needed = needed
        self._gone = False
        # The lane whose node was told so.
        self._told: Lane | None = None

    def begin(self, *, gone: bool) -> None:
        """Take note that nothing more comes; if the client is gone, nobody waits for replies."""
        self.begun = True
        self._gone = self._gone or gone

    def is_over(self, todo: Sized) -> bool:
        """Say whether all is done, with what is yet to be sent; tell a node that may wait for others not to."""
        if not self.begun or not (todo or (self._flight and not self._gone)):
            return self.begun
        lane = self._flight.lane
        if lane is not None and lane is not self._told and self._flight.may_block and not self._needed(lane):
            self._told = lane
            self._outside.end(lane.node)
        return False

    def left(self) -> Lane | None:
        """Return the lane whose node was told so, once it has replied: it takes no more."""
        if self._told is None or self._flight:
            return None
        told, self._told = self._told, None
        return told
