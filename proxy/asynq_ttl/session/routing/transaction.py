"""Where one client's transaction is, and how its commands get there. Pure.

Invariants:

* A transaction is at one node: that of its first command, or of the keys that are watched.
* `MULTI` goes to a node only with the first command; until then the client has an answer, and no node knows of it.
* What else is in it goes to that node, whatever its keys: that they are elsewhere is Redis's to say.
"""

from collections.abc import Callable

from asynq_ttl.session.routing.destinations import Role
from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.order import Order

OK = b"+OK\r\n"


class Transaction:
    """The transaction of one client, if it has begun one, and the keys that it watches.

    Args:
        order: the commands of the client.
        deliver: gives the client a piece of a reply, and is told whether it has ended.
    """

    __slots__ = "_before", "_begin", "_beginning", "_deliver", "_first", "_lane", "_order", "open", "watched"

    def __init__(self, order: Order, deliver: Callable[[bytes, bool], None]) -> None:
        self.open = False
        """Whether the client has said MULTI, and not yet what ends it."""
        self.watched: Lane | None = None
        """Where keys are watched."""
        self._order = order
        self._deliver = deliver
        # MULTI as it came, and what is said before it; where a node knows of it; and the errand by which that is told.
        self._begin = self._before = b""
        self._lane: Lane | None = None
        self._beginning: Errand | None = None
        self._first: Errand | None = None

    def concerns(self, errand: Errand) -> bool:
        """Say whether a command is part of the transaction."""
        return self.open and errand is not self._beginning and errand.role is not Role.RESET

    def needs(self, lane: Lane) -> bool:
        """Say whether it is lost with a lane."""
        return lane in (self._lane, self.watched)

    def end(self) -> None:
        """Take note of EXEC, or of what else ends it: nothing is watched then either."""
        self.open, self._begin = False, b""
        self._lane = self.watched = self._first = self._beginning = None

    def goes_elsewhere(self, errand: Errand, lane: Lane) -> bool:
        """Take note that a node has refused a command, which may go elsewhere; say whether it begins a transaction.

        Nothing else is queued then, so another node may have the transaction. The one that has refused it forgets it
        with its connection.
        """
        if not self.open or errand is not self._first:
            return False
        self._lane = None
        self._order.drop(lane)
        return True

    # --- what is to be done with a command (see `Order`) --------------------------------------------------------------

    def multi(self, errand: Errand) -> bool:
        """Answer MULTI: where it goes, the first command of the transaction will say."""
        if self._order.flight:
            return False
        self.open, self._begin, self._before = True, errand.data, errand.before
        errand.answer(OK)
        return True

    def lead(self, errand: Errand) -> bool:
        """Lead a command of the transaction to its node; before the first one, MULTI."""
        if self._lane is None:
            if self._order.flight:
                return False
            self._beginning = Errand(self._begin, slot=errand.slot)
            self._beginning.follow(self._before)
            self._beginning.whole(self._began)
            self._beginning.bind(errand.node if self.watched is None else self.watched.node)
            self._order.todo.appendleft(self._beginning)
            return True
        self._first = self._first or errand
        if errand is self._first:
            errand.lead_to(self._lane.node)
            errand.be_alone()
        else:
            errand.bind(self._lane.node)
        if errand.role is Role.PIN:
            return self._order.pin_to(errand)
        if not self._order.go(errand):
            return False
        if errand.role is Role.END_MULTI:
            self.end()
        return True

    def _began(self, reply: bytes) -> None:
        """Hang up where a node takes no transaction: the client was told that it has begun."""
        if reply == OK:
            self._lane = self._order.flight.lane
        else:
            self._order.hang_up()

    def watch(self, errand: Errand) -> bool:
        """Lead WATCH to the node of its key, which then has the next transaction."""
        if self.watched is not None:
            errand.bind(self.watched.node)
        errand.whole(self._watching)
        return self._order.go(errand)

    def _watching(self, reply: bytes) -> None:
        if reply == OK:
            self.watched = self._order.flight.lane
        self._deliver(reply, True)  # noqa: FBT003 - a callback

    def unwatch(self, errand: Errand) -> bool:
        """Lead UNWATCH there."""
        if not self._order.go(errand):
            return False
        self.end()
        return True
