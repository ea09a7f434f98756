"""What a client is told of the nodes of a cluster: each at the sidecar's own ports. Pure.

Invariants:

* No reply in which a node is named (`CLUSTER SLOTS`, `SHARDS`, `NODES`, `REPLICAS`, `SLAVES`, alone or in a
  transaction) and no redirection (`MOVED`, `ASK`) leaves with another address in it, wherever Redis's bytes are cut.
* Any other byte goes on as it came, in order, and at once: only replies that are due to be renamed are held, and errors
  until the end of their line.
* What is held is bounded. Where that is not enough, and where a reply is not understood, the client gets an error that
  cluster clients know (`CLUSTERDOWN`) instead.

Where replies can no longer be assigned to commands (`SUBSCRIBE` and the like), a reply with the form of the one that is
due is taken for it.
"""

from collections import deque
from collections.abc import Callable

from asynq_ttl.session.passing import Passing
from asynq_ttl.wire.cluster.naming import NAMINGS, Naming, Ports, name_in_redirection, name_in_transaction
from asynq_ttl.wire.cluster.topology import NoTopologyError
from asynq_ttl.wire.replies import ReplyCounter

# A topology is no larger; with 16,384 ranges and one replica it has 3 MB. (Security limits.)
MAX_HELD_BYTES = 16 * 1024 * 1024
MAX_DUE = 1_000
# Replies to CLUSTER SLOTS that are remembered, one for each host that clients are told, and how long they may be.
_MAX_REMEMBERED = 8
_MAX_REMEMBERED_BYTES = 4 * 1024 * 1024
_PUSH, _MINUS = b">-"


class Questions:
    """What a client asks of the nodes of a cluster; here nobody takes note of it."""

    __slots__ = ()

    def begin_transaction(self, number: int) -> None:
        """Take note of MULTI; `number` is that of the command, counted from 1."""

    def ask(self, subcommand: bytes, number: int, *, queued: bool) -> bool:  # noqa: ARG002 - it may be asked
        """Take note of a CLUSTER command; return False where it may not be asked, since too many are unanswered.

        Args:
            subcommand: what it asks for, in upper case.
            number: the number of the command, counted from 1; 0 where its reply cannot be told by its number.
            queued: whether it is part of a transaction: then its number can be told.
        """
        return True

    def end_transaction(self, number: int, *, executed: bool) -> None:
        """Take note of what ends a transaction; `number` is as for `ask`, `executed` whether it is EXEC."""


class Directory:
    """How nodes are called. Shared by all connections.

    Args:
        ports: who knows where clients find each node.
        generation: returns a number that grows whenever a node may have got another port.
        fault: told, in words, of what could not be renamed.
    """

    def __init__(self, ports: Ports, generation: Callable[[], int], fault: Callable[[str], None]) -> None:
        self.ports = ports
        self._generation = generation
        self._fault = fault
        self._remembered: dict[tuple[bytes, bytes], tuple[int, bytes]] = {}

    def rename(self, naming: Naming, reply: bytes, host: bytes) -> bytes:
        """Return a reply, which is no error, with the nodes in it called otherwise.

        Raises:
            NoTopologyError: it is not understood.
        """
        if naming is not NAMINGS[b"SLOTS"]:
            return naming(reply, host, self.ports)
        generation, renamed = self._remembered.get((host, reply), (-1, b""))
        if generation == self._generation():
            return renamed
        renamed = naming(reply, host, self.ports)
        if len(reply) <= _MAX_REMEMBERED_BYTES:
            while len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[host, reply] = self._generation(), renamed
        return renamed

    def refused(self, why: str) -> bytes:
        """Tell of a reply that could not be renamed; return the error that the client gets instead."""
        self._fault(why)
        return b"-CLUSTERDOWN asynq-ttl cannot tell where the nodes are: " + why.encode() + b"\r\n"


class Renaming(Passing, Questions):
    """The replies to one client.

    Args:
        directory: how nodes are called.
        host: the host that this client is told, if that is known yet.
    """

    __slots__ = ("_asked", "_counter", "_directory", "_due", "_held", "_holds", "_host", "_size", "_start")

    def __init__(self, directory: Directory, host: bytes = b"") -> None:
        super().__init__()
        self._directory = directory
        self._host = host
        self._counter = ReplyCounter()
        # The numbers of the replies that name nodes, 0 where that is not known, and how to rename them.
        self._due: deque[tuple[int, Naming]] = deque()
        # In a transaction: the number of its MULTI, and what was asked for in it.
        self._start = 0
        self._asked: dict[int, Naming] = {}
        # The reply that is held, and whether one is.
        self._held: list[bytes] = []
        self._size = 0
        self._holds = False

    def tell_host(self, host: bytes) -> None:
        """Take note of the host that this client is told."""
        self._host = host

    # --- what the client asks for (`Questions`) ---------------------------------------------------------------------

    def begin_transaction(self, number: int) -> None:
        """Take note of MULTI."""
        self._start, self._asked = number, {}

    def ask(self, subcommand: bytes, number: int, *, queued: bool) -> bool:
        """Take note of a CLUSTER command, unless too many are unanswered."""
        naming = NAMINGS.get(subcommand)
        if naming is None:
            return True
        if len(self._due) + len(self._asked) >= MAX_DUE:
            return False
        if queued:
            self._asked[number - self._start - 1] = naming
        else:
            self._expect(number, naming)
        return True

    def end_transaction(self, number: int, *, executed: bool) -> None:
        """Take note of what ends a transaction."""
        asked, self._asked = self._asked, {}
        if asked and executed:
            self._expect(number, lambda reply, host, ports: name_in_transaction(reply, host, ports, asked))

    def _expect(self, number: int, naming: Naming) -> None:
        self._due.append((number, naming))
        self.quiet = False

    # --- what Redis replies -----------------------------------------------------------------------------------------

    def receive_slowly(self, data: bytes) -> bytes:
        """Take bytes of Redis that do not simply pass; return what the client gets."""
        if self._counter.lost:
            return data
        out: list[bytes] = []
        counter, position, sent = self._counter, 0, 0
        while position < len(data):
            start = position
            if counter.between and self._is_of_interest(data[start]):
                out.append(data[sent:start])
                self._holds = True
            position = counter.advance(data, position)
            if counter.heads:
                self.replies += len(counter.heads)
                counter.forget()
            if self._holds:
                sent = position
                self._hold(data[start:position], out)
        out.append(data[sent:])
        self.quiet = counter.between and not self._due
        return b"".join(out)

    def _is_of_interest(self, first: int) -> bool:
        """Say whether a reply or push that begins with this byte has to be seen whole."""
        if first == _PUSH:
            return False
        return first == _MINUS or bool(self._due and self._due[0][0] <= self.replies + 1)

    def _hold(self, piece: bytes, out: list[bytes]) -> None:
        """Hold a piece of a reply; give out what the client gets for it when it is whole."""
        self._size += len(piece)
        self._held.append(piece)
        if self._counter.lost:
            out += self._held
        elif self._counter.between:
            out.append(self._renamed())
        elif self._size <= MAX_HELD_BYTES:
            return
        elif self._due and self._due[0][0] == self.replies + 1:
            self._held.clear()  # the client gets an error when it has ended
            return
        else:
            out += self._held
        self._held, self._size, self._holds = [], 0, False

    def _renamed(self) -> bytes:
        """Return what the client gets for the reply that is held."""
        # Where nothing is due it is an error, which is not asked about.
        number, naming = self._due[0] if self._due else (self.replies + 1, NAMINGS[b"SLOTS"])
        certain = number == self.replies
        reply = b"".join(self._held)
        try:
            if self._size > MAX_HELD_BYTES:
                renamed = self._directory.refused("the reply is too long")
            elif reply[0] == _MINUS:
                renamed = name_in_redirection(reply, self._host, self._directory.ports)
            else:
                renamed = self._directory.rename(naming, reply, self._host)
        except NoTopologyError as error:
            if not certain:
                return reply  # it answers something else
            renamed = self._directory.refused(str(error))
        if certain or (number < self.replies and reply[0] != _MINUS):
            self._due.popleft()
        return renamed
