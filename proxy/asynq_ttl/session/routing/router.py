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
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.holding import Holding
from asynq_ttl.session.routing.destinations import Role, name_of
from asynq_ttl.session.routing.errand import ANY, Errand, errand_for
from asynq_ttl.session.routing.flight import MAX_HELD_BYTES
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.merging import Scan, merge
from asynq_ttl.session.routing.nodes import Nodes, Outside
from asynq_ttl.session.routing.order import Order
from asynq_ttl.session.routing.transaction import Transaction
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.cluster.naming import redirection_of
from asynq_ttl.wire.commands import Command, CommandFramer, encode

# What a client says of its own is said again only up to this size, and so many things. (Security limits.)
_MAX_STATE_BYTES = 16 * 1024
_MAX_STATE = 16

_MINUS = ord("-")
_OK: Final = b"+OK\r\n"
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

    def __init__(self, nodes: Nodes, outside: Outside, shared: Shared) -> None:
        self.commands = 0
        """Commands that the client has sent and that will be replied to."""
        self.replies = 0
        """Replies that the client was given."""
        self.waiting_for: Script | None = None
        """Nothing: a lane that waits for a wrapper keeps nobody from feeding the router."""
        self.holding = Holding(shared.room, lambda _head: True, self._refuse_large)
        self._nodes = nodes
        self._outside = outside
        self._clock = shared.clock
        self._framer = CommandFramer(shared.whole, self.holding.must_hold)
        self._large = False
        self._transaction = Transaction()
        # The MULTI that goes to a node.
        self._beginning: Errand | None = None
        # What the client has said of its own, by what it is about, in the order in which it was said last.
        self._state: dict[bytes, Command] = {}
        self.order = Order(
            nodes,
            outside,
            shared.clock,
            lead=self._lead,
            deliver=self._deliver,
            remedy=self._remedy,
            greet=self._greet,
            needed=self._transaction.needs,
        )
        """Who is told of what happens outside."""

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
        return self._framer.held_bytes + self.order.todo_bytes

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
        if not (self.order.over or self._large):
            self._queue(*self._framer.feed(data))
            self.order.advance()
        return b""

    def receive_upstream(self, data: bytes) -> None:
        """Take no note of what the client was given: that was done already."""

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
        if self._transaction.open and errand is not self._beginning and errand.role is not Role.RESET:
            return self._lead_in_transaction(errand)
        if self._transaction.watched is not None and errand.slot == ANY:
            errand.lead_to(self._transaction.watched.node)
        handler = _HANDLERS.get(errand.role)
        return self.order.go(errand) if handler is None else handler(self, errand)

    def _say_own(self, errand: Errand) -> bool:
        """Have a connection be otherwise; the others are closed, and begin so when they are opened again."""
        errand.whole(partial(self._said_own, errand.command))
        return self.order.go(errand)

    def _said_own(self, command: Command, reply: bytes) -> None:
        if reply[0] != _MINUS and sum(map(len, command)) <= _MAX_STATE_BYTES:
            name = name_of(command)
            if name == b"CLIENT|SETINFO":
                name += command[2].upper()
            elif name == b"HELLO" and len(command) > 2:
                name += b" with more"
            self._state.pop(name, None)
            self._state[name] = command
            if len(self._state) > _MAX_STATE:
                self.order.hang_up()
            self.order.drop_others()
        self._deliver(reply, True)  # noqa: FBT003 - a callback

    def _greet(self) -> Sequence[Errand]:
        """Return what is said at the beginning of a connection."""
        greeting = [
            Errand(encode(command), taker=partial(self._said_again, command), alone=True)
            for command in self._state.values()
        ]
        for errand in greeting:
            errand.bind(None)
        return greeting

    def _said_again(self, command: Command, reply: bytes) -> None:
        """Hang up where a connection is not what the client takes it for. That it has no name does no harm."""
        if reply[0] == _MINUS and command[0].upper() != b"CLIENT":
            self.order.hang_up()

    def _reset(self, errand: Errand) -> bool:
        if self.order.flight:
            return False
        self._transaction.end()
        self._state.clear()
        errand.whole(self._was_reset)
        return self.order.go(errand)

    def _was_reset(self, reply: bytes) -> None:
        self.order.drop_others()
        self._deliver(reply, True)  # noqa: FBT003 - a callback

    def _pin(self, errand: Errand) -> bool:
        if self.order.flight:
            return False
        lane = self.order.reach(errand)
        if lane is not None:
            self.order.pin(lane)
        return lane is not None or bool(errand.reply)

    def _answer_ok(self, errand: Errand) -> bool:
        errand.answer(_OK)
        return True

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

    # --- transactions -----------------------------------------------------------------------------------------------

    def _multi(self, errand: Errand) -> bool:
        """Answer MULTI: where it goes, the first command of the transaction will say."""
        if self.order.flight:
            return False
        self._transaction.asked(errand.data)
        errand.answer(_OK)
        return True

    def _lead_in_transaction(self, errand: Errand) -> bool:
        transaction = self._transaction
        if transaction.lane is None:
            if self.order.flight:
                return False
            begin = self._beginning = Errand(transaction.begin, slot=errand.slot)
            begin.whole(self._began)
            begin.bind(errand.node if transaction.watched is None else transaction.watched.node)
            self.order.todo.appendleft(begin)
            return True
        if transaction.is_first(errand):
            errand.lead_to(transaction.lane.node)
            errand.be_alone()
        else:
            errand.bind(transaction.lane.node)
        if errand.role is Role.PIN:
            return self._pin(errand)
        if not self.order.go(errand):
            return False
        if errand.role is Role.END_MULTI:
            transaction.end()
        return True

    def _began(self, reply: bytes) -> None:
        """Hang up where a node takes no transaction: the client was told that it has begun."""
        if reply == _OK:
            self._transaction.began(self.order.flight.lane)
        else:
            self.order.hang_up()

    def _watch(self, errand: Errand) -> bool:
        watched = self._transaction.watched
        if watched is not None:
            errand.bind(watched.node)
        errand.whole(self._watching)
        return self.order.go(errand)

    def _watching(self, reply: bytes) -> None:
        lane = self.order.flight.lane
        if reply == _OK and lane is not None:
            self._transaction.watch(lane)
        self._deliver(reply, True)  # noqa: FBT003 - a callback

    def _unwatch(self, errand: Errand) -> bool:
        if not self.order.go(errand):
            return False
        self._transaction.end()
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
        first = self._transaction.is_first(errand) if self._transaction.open else False
        if first:  # nothing else is queued: another node may have the transaction
            self._transaction.began(None)
            self.order.drop(lane)
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


_HANDLERS: dict[Role, Callable[[Router, Errand], bool]] = {
    Role.SPAN: Router._span,  # noqa: SLF001 - the table of the class's own methods
    Role.SCAN: Router._scan,  # noqa: SLF001
    Role.STATE: Router._say_own,  # noqa: SLF001
    Role.RESET: Router._reset,  # noqa: SLF001
    Role.PIN: Router._pin,  # noqa: SLF001
    Role.MULTI: Router._multi,  # noqa: SLF001
    Role.WATCH: Router._watch,  # noqa: SLF001
    Role.UNWATCH: Router._unwatch,  # noqa: SLF001
    Role.ASKING: Router._answer_ok,  # noqa: SLF001
    Role.QUIT: Router._answer_ok,  # noqa: SLF001
}
