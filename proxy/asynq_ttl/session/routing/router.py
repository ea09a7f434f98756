"""One client's conversation with a cluster: to the client it is one Redis. No I/O, no clock of its own.

It is to the relay what a `Session` is for one Redis, and leads to one for each node that the client's commands go to.

Invariants:

* Each command is answered once, in order, and executed after those that were sent before it.
* What a node may have executed is never sent again: only what it has refused with `MOVED`, `ASK`, `TRYAGAIN`,
  `CLUSTERDOWN` or `LOADING`, in its own words, and what could not be sent.
* Each connection to a node begins with what the client has said of its own (`HELLO`, `AUTH`, `CLIENT SETNAME`, ...).
* What is held is bounded.
"""

import re
from collections.abc import Callable, Collection

from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.holding import Holding
from asynq_ttl.session.routing.destinations import UNUSUAL, Role, name_of, quick_slot
from asynq_ttl.session.routing.errand import ANY, Errand, errand_for
from asynq_ttl.session.routing.flight import MAX_HELD_BYTES
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.merging import Scan, merge
from asynq_ttl.session.routing.nodes import Nodes, Outside
from asynq_ttl.session.routing.order import Order
from asynq_ttl.session.routing.own_words import OwnWords
from asynq_ttl.session.routing.transaction import OK, Transaction
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.cluster.naming import redirection_of
from asynq_ttl.wire.commands import Command, CommandFramer, encode

# What a node says, in its own words, when it has not executed a command.
_NOT_EXECUTED = re.compile(
    rb"-(TRYAGAIN Multiple keys request during rehashing of slot|CLUSTERDOWN Hash slot not served|"
    rb"CLUSTERDOWN The cluster is down( and only accepts read commands)?|"
    rb"LOADING (Redis|Valkey) is loading the dataset in memory)\r\n"
)
_TOO_LARGE = b"-ERR asynq-ttl: the command is too large to be led to a node of the cluster\r\n"
_TOO_MUCH = b"-ERR asynq-ttl: the replies of the cluster's masters are too large to be put together\r\n"
_NO_MASTER = b"-CLUSTERDOWN asynq-ttl: no node of the cluster serves a slot\r\n"
_MOVES = b"-CLUSTERDOWN asynq-ttl: the nodes of the cluster send each other's commands on\r\n"
# What a client is told where a command can go to no other node.
_QUEUED_ELSEWHERE = b"-TRYAGAIN asynq-ttl: the keys of the transaction are not all at one node\r\n"
_BOUND: dict[Role, bytes] = {
    Role.END_MULTI: b"-EXECABORT Transaction discarded: its keys have moved to another node\r\n",
    Role.WATCH: b"-CROSSSLOT asynq-ttl: keys at another node are watched already\r\n",
}


class Router:
    """One client of a cluster.

    Args:
        nodes: who knows the nodes.
        outside: who has the connections.
        shared: what all sessions share that lead to no node.
    """

    __slots__ = (
        "_clock", "_framer", "_handlers", "_large", "_nodes", "_outside", "_own", "_transaction", "commands", "holding",
        "marks", "order", "replies", "waiting_for",
    )  # fmt: skip

    def __init__(self, nodes: Nodes, outside: Outside, shared: Shared) -> None:
        self.commands = 0
        """Commands that the client has sent and that will be replied to."""
        self.replies = 0
        """Replies that the client was given."""
        self.waiting_for: Script | None = None
        """Nothing: a lane that waits for a wrapper keeps nobody from feeding the router."""
        self.holding = Holding(shared.room, lambda _head: True, self._refuse_large)
        self.marks: Collection[int] = ()
        """None: what lanes hear of replies is the client's already."""
        self._nodes = nodes
        self._outside = outside
        self._clock = shared.clock
        self._framer = CommandFramer(shared.whole, self.holding.must_hold)
        self._large = False
        self.order = Order(
            nodes,
            outside,
            shared.clock,
            lead=self._lead,
            deliver=self._deliver,
            remedy=self._remedy,
            greet=lambda: self._own.again(),  # noqa: PLW0108 - it is made below
            needed=lambda lane: self._transaction.needs(lane),  # noqa: PLW0108 - it is made below
        )
        """Who is told of what happens outside."""
        self._transaction = Transaction(self.order, self._deliver)
        self._own = OwnWords(self.order, self._deliver)
        self._handlers = self._roles()

    def _roles(self) -> dict[Role, Callable[[Errand], bool]]:
        """Return what is done with a command, by its role."""
        return {
            Role.KEY: self.order.go,
            Role.END_MULTI: self.order.go,
            Role.SPAN: self._span,
            Role.SCAN: self._scan,
            Role.STATE: self._own.say,
            Role.RESET: self._reset,
            Role.PIN: self.order.pin_to,
            Role.MULTI: self._transaction.multi,
            Role.WATCH: self._transaction.watch,
            Role.UNWATCH: self._transaction.unwatch,
            Role.CACHING: self._own.choose,
            Role.ASKING: _answer_ok,
            Role.QUIT: _answer_ok,
        }

    # --- what the relay asks a session for --------------------------------------------------------------------------

    @property
    def database(self) -> int:
        """The number of the database that commands go to: a cluster has one."""
        return 0

    @property
    def pending(self) -> int:
        """Commands that wait for their replies, or to be sent."""
        return self.commands - self.replies if self.counting else 0

    @property
    def held_bytes(self) -> int:
        """The size of what is held back of the client's bytes."""
        return self._framer.held_bytes + self.order.todo.bytes

    @property
    def counting(self) -> bool:
        """Whether replies are counted: not once the client has one node's connection for good."""
        return self.order.pinned is None

    @property
    def busy(self) -> bool:
        """Whether the client is in the middle of a command or of a transaction."""
        return bool(self._transaction.open or self._framer.held_bytes or self.order.todo)

    def receive_downstream(self, data: bytes) -> bytes:
        """Take bytes of the client. What goes to nodes goes by `Outside`, so nothing is returned."""
        if self._framer.between and not self._transaction.open:
            slot = quick_slot(data, UNUSUAL)
            if slot >= 0 and self.order.send_at_once(data, slot):  # nearly always
                self.commands += 1
                return b""
        if not (self.order.over or self._large):
            self._queue(*self._framer.feed(data))
            self.order.advance()
        return b""

    def receive_upstream(self, data: bytes) -> None:
        """Take no note of what the client was given: that was done already."""

    def unmark(self, data: bytes) -> bytes:
        """Return what the client was given: that is its own already."""
        return data

    def resume(self) -> bytes:
        """Return nothing: what waits for a wrapper is a lane's."""
        return b""

    def give_back(self) -> None:
        """Give back the room of a large command that has come whole."""
        self.holding.give_back(self._framer.held_bytes)

    def close(self) -> None:
        """Hold nothing any more."""
        self.order.close()
        self.holding.give_back(0)

    # --- what the client has sent -----------------------------------------------------------------------------------

    def _queue(self, data: bytes, commands: list[Command], at: int) -> None:
        todo = self.order.todo
        for command in commands[: -1 if self._large else None]:
            plain = _plain(command)
            if not plain or not data.startswith(plain, at):
                break
            at += len(plain)
            if command:  # Redis skips "*0" without a reply
                self.commands += 1
                todo.append(errand_for(command, plain))
        if self._large:
            todo.append(Errand(b"", role=Role.QUIT))
            todo[-1].answer(_TOO_LARGE)
        elif at < len(data):
            # Not the one plain form of a command: what that means, one node has to say.
            self._framer.give_up()
            todo.append(Errand(data[at:], role=Role.PIN))

    def _refuse_large(self, *_: object) -> None:
        self._large = True

    def _deliver(self, data: bytes, ended: bool) -> None:  # noqa: FBT001 - a callback
        self.replies += ended
        self._outside.to_client(data)

    # --- what a command's role asks for -----------------------------------------------------------------------------

    def _lead(self, errand: Errand) -> bool:
        """Do with the next command what can be done now; return whether that was anything."""
        if self._transaction.concerns(errand):
            return self._transaction.lead(errand)
        if self._transaction.watched is not None and errand.slot == ANY:
            errand.lead_to(self._transaction.watched.node)
        return self._handlers[errand.role](errand)

    def _reset(self, errand: Errand) -> bool:
        if self.order.flight:
            return False
        self._transaction.end()
        return self._own.reset(errand)

    # --- all masters ------------------------------------------------------------------------------------------------

    def _span(self, errand: Errand) -> bool:
        """Let a command go to each master, and put their replies together."""
        slots = self._nodes.masters()
        if not slots:
            self.order.trouble(errand, _NO_MASTER)
            return bool(errand.reply)
        replies: list[bytes] = []

        def take(reply: bytes) -> None:
            replies.append(reply)
            if sum(map(len, replies)) > MAX_HELD_BYTES:
                replies[:] = [_TOO_MUCH] + [b""] * (len(replies) - 1)
            if len(replies) == len(slots):
                self._deliver(merge(name_of(errand.command), [each for each in replies if each]), True)  # noqa: FBT003 - a callback

        parts = [Errand(errand.data, errand.command, slot=slot, taker=take, alone=True) for slot in slots]
        self.order.todo.popleft()
        self.order.todo.extendleft(reversed(parts))
        return True

    def _scan(self, errand: Errand) -> bool:
        """Let a SCAN go to the master that its cursor names."""
        slots = self._nodes.masters()
        if not slots:
            self.order.trouble(errand, _NO_MASTER)
            return bool(errand.reply)
        scan = Scan(errand.command, len(slots))
        if scan.fault:
            errand.answer(scan.fault)
            return True

        def take(reply: bytes) -> None:
            self._deliver(scan.reply(reply), True)  # noqa: FBT003 - a callback

        self.order.todo.popleft()
        self.order.todo.appendleft(Errand(scan.data, errand.command, slot=slots[scan.master], taker=take, alone=True))
        return True

    # --- what nodes refuse ------------------------------------------------------------------------------------------

    def _remedy(self, errand: Errand, lane: Lane, line: bytes) -> bytes | None:
        """Return what the client gets for an error; None where its command goes to another node."""
        found = redirection_of(line)
        if found is None and not _NOT_EXECUTED.fullmatch(line):
            return line
        self._nodes.look()
        if errand.bound:
            return line if found is None else _BOUND.get(errand.role, _QUEUED_ELSEWHERE)
        if not errand.in_time(self._clock()):
            return line if found is None else _MOVES
        first = self._transaction.goes_elsewhere(errand, lane)
        kind, slot, host, port = found or (b"", ANY, "", 0)
        node = self._nodes.at(host, port, slot) if kind == b"MOVED" or (kind == b"ASK" and not first) else None
        errand.sent_on(node, asking=kind == b"ASK")
        return None


def _plain(command: Command) -> bytes:
    """Return the plain form of a command; nothing where it has none."""
    try:
        return encode(command)
    except TypeError:
        return b""


def _answer_ok(errand: Errand) -> bool:
    errand.answer(OK)
    return True
