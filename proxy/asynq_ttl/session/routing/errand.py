"""One command on its way through a cluster. Pure."""

from collections.abc import Callable
from typing import Final

from asynq_ttl.session.routing.destinations import Role, first_key, role_of
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.commands import Command

ANY: Final = -1
"""The slot of a command that any node can answer."""
# A command that a node could not execute is tried again for so long, as behind Sentinels. (Nanoseconds.)
PATIENCE_NS = 5_000_000_000
# After so many redirections in a row the next one waits for a moment, as each does that is no redirection.
_QUICK_HOPS = 5

Taker = Callable[[bytes], None]


class Errand:
    """A command, where it goes, and what has come of it.

    Args:
        data: its bytes.
        command: the same, taken apart; empty where it could not be.
        role: what it is to the router.
        slot: the slot whose master it goes to; `ANY` for any.
        taker: takes its whole reply; None where the client does, as it comes.
        alone: whether nothing goes before its reply has come.
    """

    node: Node | None = None
    """Where it was sent on to; None for the master of its slot."""
    asking = False
    """Whether that node is to be told that the slot is on its way to it."""
    bound = False
    """Whether it can go to no other node."""
    before = b""
    """What is said before it to whichever node it goes to."""
    pausing = False
    """Whether it waits for a moment before it goes again."""
    reply = b""
    """What the client gets, where that is known already."""
    _until = 0
    _hops = 0

    def __init__(
        self,
        data: bytes,
        command: Command | None = None,
        role: Role = Role.KEY,
        *,
        slot: int = ANY,
        taker: Taker | None = None,
        alone: bool = False,
    ) -> None:
        self.data = data
        self.command = command or []
        self.role = role
        self.slot = slot
        self.taker = taker
        self.alone = alone

    def whole(self, taker: Taker) -> None:
        """Have its reply taken whole, and nothing sent until then."""
        self.taker = taker
        self.alone = True

    def be_alone(self) -> None:
        """Have nothing sent until it is answered."""
        self.alone = True

    def lead_to(self, node: Node) -> None:
        """Let it go to a node, as long as that takes it."""
        self.node = node

    def bind(self, node: Node | None) -> None:
        """Let it go to one node, whatever that says; None for the master of its slot."""
        self.node = node
        self.bound = True

    def follow(self, before: bytes) -> None:
        """Let something be said before it, wherever it goes."""
        self.before = before

    def answer(self, reply: bytes) -> None:
        """Take note of what the client gets."""
        self.reply = reply

    def in_time(self, now_ns: int) -> bool:
        """Say whether it may be tried again; the time that it has begins when that is asked first."""
        self._until = self._until or now_ns + PATIENCE_NS
        return now_ns < self._until

    def sent_on(self, node: Node | None, *, asking: bool) -> None:
        """Let it go to another node; None for the master of its slot, whoever that is then, after a moment."""
        self._hops += 1
        self.node, self.asking = node, asking and node is not None
        self.pausing = node is None or self._hops > _QUICK_HOPS

    def rest(self) -> None:
        """Take note that the moment is over, or has begun."""
        self.pausing = False


def errand_for(command: Command, data: bytes) -> Errand:
    """Return the errand that a client's command is."""
    key = first_key(command)
    return Errand(data, command, role_of(command), slot=ANY if key is None else slot_of(key))
