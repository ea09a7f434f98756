"""A client of a cluster, its router, and nodes that say what a test has them say: no network, no Redis."""

from collections.abc import Sequence

from asynq_ttl.rewriting.registry import Script, Status
from asynq_ttl.session.holding import Room
from asynq_ttl.session.renaming import Directory
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.session.routing.router import Router
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import CommandFramer, WholeCommands, encode
from support.conversation import Conversation

SLOTS = 16_384


class Stop:
    """A node: what it was sent, whether it is connected to, and what is wrong with it."""

    def __init__(self, name: str, talk: Conversation) -> None:
        self.name = name
        self._shared = talk.shared.beside(type(talk.registry)(beside=talk.registry), talk.shared.observer)
        self.sent = b""
        self.opened = 0
        self.is_open = False

    @property
    def shared(self) -> Shared:
        """What sessions share that lead to it."""
        return self._shared

    def takes(self) -> list[list[bytes]]:
        """Return and forget the commands that it was sent."""
        data, self.sent = self.sent, b""
        _, commands, _ = CommandFramer(WholeCommands(), lambda _head, _size: True).feed(data)
        return commands


class Ports:
    """Every node is at the port of the sidecar."""

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return it."""
        return 6380

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return it."""
        return 6380


class Cluster:
    """A cluster of three masters, A, B and C, and one client (`Nodes`, and `Outside`).

    What takes time outside happens when a test says so, unless `ready`: then nodes can be connected to at once.
    """

    def __init__(self, *, ready: bool = True, room: Room | None = None) -> None:
        self.talk = Conversation()
        if room is not None:
            self.talk.shared.room = room
        self.stops = [Stop(name, self.talk) for name in "ABC"]
        self.directory = Directory(Ports(), lambda: 0, lambda _: None)
        self.moved: dict[int, Stop | None] = {}
        self.ready = ready
        self.got = b""
        self.looks = 0
        self.opening: Stop | None = None
        self.ended: list[str] = []
        self.activating: tuple[Node, Script] | None = None
        self.waiting = False
        self.full = False
        self.over = False
        self.some_is: Stop | None = self.stops[0]
        self.router = Router(self, self, self.talk.shared)
        self.router.order.tell_host(b"side.car")

    # --- `Nodes` ----------------------------------------------------------------------------------------------------

    def owner(self, slot: int) -> Node | None:
        """Return the master of a slot."""
        return self.moved.get(slot, self.stops[slot * 3 // SLOTS])

    def some(self) -> Node | None:
        """Return a master."""
        return self.some_is

    def masters(self) -> Sequence[int]:
        """Return the first slots."""
        return [] if self.some_is is None else [0, 5462, 10923]

    def at(self, host: str, port: int, slot: int) -> Node | None:
        """Return the node at an address: the port says which."""
        return self.stops[port] if port < 3 else None

    def look(self) -> None:
        """Count it."""
        self.looks += 1

    # --- `Outside` --------------------------------------------------------------------------------------------------

    def to_client(self, data: bytes) -> None:
        """Keep it."""
        self.got += data

    def send(self, node: Node, data: bytes) -> None:
        """Keep it."""
        assert isinstance(node, Stop)
        assert node.is_open
        node.sent += data

    def open(self, node: Node) -> None:
        """Remember it; it is done by `settle`."""
        assert isinstance(node, Stop)
        assert self.opening is None
        self.opening = node

    def end(self, node: Node) -> None:
        """Remember it."""
        assert isinstance(node, Stop)
        assert node.is_open
        self.ended.append(node.name)

    def drop(self, node: Node) -> None:
        """Close it."""
        assert isinstance(node, Stop)
        node.is_open = False

    def activate(self, node: Node, script: Script) -> None:
        """Remember it."""
        self.activating = node, script

    def wait(self) -> None:
        """Remember it."""
        self.waiting = True

    def hold(self, full: bool) -> None:
        """Remember it."""
        self.full = full

    def hang_up(self) -> None:
        """Remember it."""
        self.over = True

    # --- what a test does -------------------------------------------------------------------------------------------

    def sends(self, *commands: str, step: int = 0) -> None:
        """Let the client send commands, words with spaces between, in pieces of so many bytes."""
        self.sends_bytes(b"".join(encode(command.encode().split(b" ")) for command in commands), step)

    def sends_bytes(self, data: bytes, step: int = 0) -> None:
        """Let the client send bytes."""
        for at in range(0, len(data), step or len(data)):
            assert self.router.receive_downstream(data[at : at + (step or len(data))]) == b""
            self.router.give_back()
            self.settle()

    def settle(self) -> None:
        """Let nodes be connected to."""
        while self.ready and self.opening is not None:
            self.opens()

    def opens(self) -> None:
        """Let the node be connected to that is asked for."""
        stop, self.opening = self.opening, None
        assert stop is not None
        stop.opened += 1
        stop.is_open = True
        self.router.order.opened(stop)

    def fails(self, reason: str = "away") -> None:
        """Let it be out of reach."""
        assert self.opening is not None
        self.opening = None
        self.router.order.failed(reason)
        self.settle()

    def time_passes(self, seconds: float = 0.05) -> None:
        """Let a moment pass that is waited for."""
        assert self.waiting
        self.waiting = False
        self.talk.now_ns += int(seconds * 1e9)
        self.router.order.go_on()
        self.settle()

    def time_of(self, seconds: float) -> None:
        """Let so much time pass for the clock."""
        self.talk.now_ns += int(seconds * 1e9)

    def activation_ends(self, status: Status) -> None:
        """Let a wrapper be loaded, or not."""
        assert self.activating is not None
        node, script = self.activating
        self.activating = None
        if status is Status.ACTIVE:
            node.shared.registry.activated(script)
        self.router.order.go_on()
        self.settle()

    def replies(self, name: str, *replies: bytes, step: int = 0) -> None:
        """Let a node reply, in pieces of so many bytes."""
        data = b"".join(replies)
        for at in range(0, len(data), step or len(data)):
            self.router.order.receive(self.stop(name), data[at : at + (step or len(data))])
            self.settle()

    def hangs_up(self, name: str) -> None:
        """Let a node hang up."""
        self.stop(name).is_open = False
        self.router.order.lost(self.stop(name))

    def stop(self, name: str) -> Stop:
        """Return a node."""
        return self.stops["ABC".index(name)]

    def takes(self, name: str) -> list[str]:
        """Return and forget what a node was sent, as words."""
        return [b" ".join(command).decode() for command in self.stop(name).takes()]

    def client_gets(self) -> bytes:
        """Return and forget what the client was given."""
        got, self.got = self.got, b""
        return got
