"""What a client has said of its own connection, and says again on each to a node. Pure.

Invariants:

* A connection to a node is as the client has asked for it to be, or there is none: where `HELLO` or `AUTH` is refused
  that was taken before, the conversation ends. That a connection has no name does no harm.
* What is kept is bounded.
* No change is missed without a word that a client has asked to be told of: where a node refuses to tell, the
  conversation ends, and what no node can tell another's connection is refused.
"""

from collections.abc import Callable, Sequence
from functools import partial

from asynq_ttl.session.routing.destinations import name_of
from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.order import Order
from asynq_ttl.wire.commands import Command, encode

# How much is kept, and how many things there are to say. (Security limits.)
_MAX_BYTES = 16 * 1024
_MAX_WORDS = 16
OK = b"+OK\r\n"
_MINUS = ord("-")
_TRACKING = b"CLIENT|TRACKING"
_NO_REDIRECT = b"-ERR asynq-ttl: CLIENT TRACKING cannot REDIRECT: a node tells only connections of its own\r\n"
# In which mode a client may say CLIENT CACHING YES, or NO.
_MODES = {b"YES": b"OPTIN", b"NO": b"OPTOUT"}


class OwnWords:
    """What one client has said.

    Args:
        order: the commands of the client.
        deliver: gives the client a piece of a reply, and is told whether it has ended.
    """

    def __init__(self, order: Order, deliver: Callable[[bytes, bool], None]) -> None:
        self._order = order
        self._deliver = deliver
        # By what it is about, in the order in which it was said last.
        self._said: dict[bytes, Command] = {}

    def say(self, errand: Errand) -> bool:
        """Have a connection be otherwise; the others are closed, and begin so when they are opened again."""
        if name_of(errand.command) == _TRACKING and b"REDIRECT" in _upper(errand.command):
            errand.answer(_NO_REDIRECT)
            return True
        errand.whole(partial(self._take, errand.command))
        return self._order.go(errand)

    def _take(self, command: Command, reply: bytes) -> None:
        if reply[0] != _MINUS and sum(map(len, command)) <= _MAX_BYTES:
            name = name_of(command)
            if name == b"CLIENT|SETINFO":
                name += command[2].upper()
            elif name == b"HELLO" and len(command) > 2:
                name += b" with more"  # such as a password, which a later HELLO without one does not take back
            self._said.pop(name, None)
            self._said[name] = command
            if len(self._said) > _MAX_WORDS:
                self._order.hang_up()
            self._order.drop_others()
        self._deliver(reply, True)  # noqa: FBT003 - a callback

    def again(self) -> Sequence[Errand]:
        """Return what is said at the beginning of a connection."""
        errands = [
            Errand(encode(command), taker=partial(self._taken, command), alone=True) for command in self._said.values()
        ]
        for errand in errands:
            errand.bind(None)
        return errands

    def _taken(self, command: Command, reply: bytes) -> None:
        if reply[0] == _MINUS and (command[0].upper() != b"CLIENT" or name_of(command) == _TRACKING):
            self._order.hang_up()

    def choose(self, errand: Errand) -> bool:
        """Keep what is said of the next command until that comes: it goes with it, to whichever node that is."""
        todo = self._order.todo
        if not errand.bound:
            mode = _MODES.get(b" ".join(_upper(errand.command[2:])))
            if mode is None or mode not in _upper(self._said.get(_TRACKING, [])):
                return self._order.go(errand)  # a node says what is wrong
            if self._order.flight:
                return False
            errand.bind(None)  # it is answered, and waits
            self._deliver(OK, True)  # noqa: FBT003 - a callback
        if len(todo) == 1 and not self._order.leaving.begun:
            return False
        todo.popleft()
        if todo:
            todo[0].follow(errand.data)
        return True

    def reset(self, errand: Errand) -> bool:
        """Forget it all, and have a connection be as it was at its beginning."""
        self._said.clear()
        errand.whole(self._reset)
        return self._order.go(errand)

    def _reset(self, reply: bytes) -> None:
        self._order.drop_others()
        self._deliver(reply, True)  # noqa: FBT003 - a callback


def _upper(words: Command) -> list[bytes]:
    return [word.upper() for word in words]
