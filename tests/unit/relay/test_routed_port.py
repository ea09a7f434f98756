"""The connections of a client to several nodes: they come and go with it, and hold each other up."""

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from asynq_ttl.relay.forwarding import Pause
from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.routed_port import RoutedDownstream, RoutedPort
from asynq_ttl.relay.routes import Routes
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.session.renaming import Directory
from asynq_ttl.upstream.cluster import Cluster, Company, Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from asynq_ttl.wire.commands import encode
from support.conversation import Conversation, complete
from support.relayed import Upstream, Wire, connected
from support.small_scripts import COMPLETE

OK = b"+OK\r\n"
A, B = encode([b"GET", b"b"]), encode([b"GET", b"a"])  # the key `b` is at node 0, `a` at node 1


class Control(ControlConnection):
    """Remembers what it is to load, and has loaded it."""

    async def activate(self, script: Script) -> None:
        """Load it."""
        self._registry.activated(script)


class Scene:
    """A relay, and a cluster of two nodes behind it, with one client."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.talk = Conversation()
        self.nodes = [Upstream(), Upstream()]
        cluster = Cluster(self.nodes[0], cast("Company", None))
        table = PortTable(range(0), lambda: 6380, cluster.meet, cluster.look)
        self.routes = Routes(cluster, table, Directory(table, lambda: 0, lambda _: None))
        for number, endpoint in enumerate(self.nodes):
            registry = ScriptRegistry(beside=self.talk.registry)
            member = Member(str(number), endpoint, registry, Control(endpoint, registry, lambda _: None))
            cluster.members[member.id] = member
            table.enlist(member)
            self.routes.enlist(member, self.talk.shared.beside(registry, self.talk.shared.observer))
            member.take(ClusterNode(str(number), "h", 1, slots=((8192 * number, 8192 * number + 8191),)), 0)
        self.view = View(tuple(cast("ClusterNode", member.node) for member in cluster.members.values()))
        self.routes.viewed(self.view)
        self.port = RoutedPort(relay, self.talk.shared, self.routes, "")
        self.client = cast("RoutedDownstream", self.port.accept())
        self.wire = Wire(sockname=("192.0.2.1", 6380))

    async def begin(self) -> None:
        """Let the client connect."""
        self.client.connection_made(self.wire)
        await self.work()

    async def work(self) -> None:
        """Let all be done that takes time."""
        while self.relay.tasks:
            await asyncio.gather(*self.relay.tasks)
            # Since Python 3.12 that is no pause where all are done, and so none leaves the set by itself.
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def sends(self, *data: bytes) -> None:
        """Let the client send something."""
        for piece in data:
            self.client.data_received(piece)
            await self.work()

    def replies(self, node: int, data: bytes) -> None:
        """Let a node reply over its latest connection."""
        self.nodes[node].protocols[-1].data_received(data)

    def sent(self, node: int) -> bytes:
        """Return what the latest connection to a node was sent."""
        return self.nodes[node].wires[-1].written


@pytest.fixture
async def scene() -> Scene:
    """A client that has connected."""
    relay, *_ = await connected()
    scene = Scene(relay)
    await scene.begin()
    return scene


async def test_a_client_has_a_connection_to_each_node_that_it_needs(scene: Scene) -> None:
    """Opened when a command goes there; they all end with its own."""
    assert [len(node.wires) for node in scene.nodes] == [0, 0]
    assert scene.client.idle
    await scene.sends(A)
    assert scene.sent(0) == A
    assert scene.client.awaits_reply
    scene.replies(0, OK)
    await scene.sends(B, A)
    scene.replies(1, OK)
    scene.replies(0, b"$-1\r\n")
    assert scene.wire.written == OK + OK + b"$-1\r\n"
    assert [len(node.wires) for node in scene.nodes] == [1, 1]
    assert scene.relay.commands == 3
    assert scene.client.idle
    scene.client.connection_lost(None)
    await scene.work()
    assert [node.wires[0].closed for node in scene.nodes] == [True, True]
    assert scene.client not in scene.relay.connections
    assert scene.relay.commands == 3


async def test_a_node_out_of_reach_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment; the reason is told in the end, once."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._MOMENT_SECONDS", 0.001)
    scene.nodes[0].fault = TimeoutError()
    scene.client.data_received(A)
    await asyncio.gather(*scene.relay.tasks)
    scene.nodes[0].fault = ConnectionRefusedError(111, "Connection refused")
    scene.talk.now_ns += 6_000_000_000
    while not scene.wire.written:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    where = b"node 127.0.0.1:6379 is unavailable: Connection refused"
    assert scene.wire.written == b"-CLUSTERDOWN asynq-ttl: " + where + b"\r\n"
    assert scene.client.idle


async def test_a_connection_that_ends_at_once_is_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again as well."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._MOMENT_SECONDS", 0.001)
    opened = Upstream.open

    async def open_and_lose(self: Upstream, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        protocol = await opened(self, factory)
        protocol.connection_lost(None)
        monkeypatch.setattr(Upstream, "open", opened)
        return protocol

    monkeypatch.setattr(Upstream, "open", open_and_lose)
    await scene.sends(A)
    while len(scene.nodes[0].wires) < 2:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    await scene.work()
    assert scene.sent(0) == A


async def test_a_wrapper_is_loaded_into_the_node_first(scene: Scene) -> None:
    """The call waits for that."""
    script = scene.talk.registry.learn(COMPLETE)
    await scene.sends(encode(list(complete(script.sha))))
    sent = next(node for node in scene.nodes if node.wires).wires[0].written
    assert script.wrapper_sha in sent


async def test_a_node_that_owes_a_reply_ends_the_client(scene: Scene) -> None:
    """One that owes none does not."""
    await scene.sends(A)
    scene.replies(0, OK)
    scene.nodes[0].protocols[0].connection_lost(None)
    assert not scene.wire.closed
    await scene.sends(A)
    scene.nodes[0].protocols[1].connection_lost(None)
    await scene.work()
    assert scene.wire.closed
    assert scene.client not in scene.relay.connections
    scene.nodes[0].protocols[0].connection_lost(None)
    scene.replies(0, OK)
    assert scene.wire.written == OK


async def test_back_pressure_goes_both_ways(scene: Scene) -> None:
    """Also to a connection that was opened meanwhile."""
    await scene.sends(A)
    scene.replies(0, OK)
    scene.client.pause_writing()
    await scene.sends(B)
    assert [node.wires[0].reading for node in scene.nodes] == [False, False]
    scene.client.resume_writing()
    assert [node.wires[0].reading for node in scene.nodes] == [True, True]
    scene.nodes[1].protocols[0].pause_writing()
    assert not scene.wire.reading
    scene.nodes[1].protocols[0].resume_writing()
    assert scene.wire.reading
    scene.nodes[1].protocols[0].pause_writing()
    scene.nodes[1].protocols[0].connection_lost(None)
    assert scene.wire.reading


async def test_a_client_that_sends_much_is_not_read_from(scene: Scene) -> None:
    """While a node is waited for."""
    scene.client.data_received(A * 1_001)
    assert Pause.WAITING in scene.client._pauses
    await scene.work()
    assert Pause.WAITING not in scene.client._pauses


async def test_the_end_of_a_client_s_commands(scene: Scene) -> None:
    """It gets its replies, then it is hung up on."""
    await scene.sends(A)
    scene.client.eof_received()
    await scene.work()
    assert not scene.wire.closed
    scene.replies(0, OK)
    await scene.work()
    assert scene.wire.closed
    assert scene.wire.written == OK


async def test_hanging_up_ends_all_connections(scene: Scene) -> None:
    """One that is being opened too; a connection that was dropped is gone."""
    await scene.sends(encode([b"AUTH", b"p"]))
    first = next(node for node in scene.nodes if node.wires)
    first.protocols[0].data_received(OK)
    scene.client.data_received(A)
    scene.client.data_received(B)
    scene.client.hang_up()
    await scene.work()
    assert scene.wire.closed
    assert all(wire.closed for node in scene.nodes for wire in node.wires)


async def test_a_client_that_goes_while_a_node_is_connected_to(scene: Scene) -> None:
    """That connection is given up, and nothing more is said to the client."""
    scene.client.data_received(A)
    scene.client.hang_up()
    scene.client.upstream.to_client(OK)
    await scene.work()
    assert scene.nodes[0].wires[0].closed
    assert scene.wire.written == b""


async def test_what_a_client_that_is_gone_has_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has some time to go on its way: what was sent before may block for ever."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._LAST_SECONDS", 0.001)
    await scene.sends(encode([b"BLPOP", b"b", b"0"]), B)
    scene.client.connection_lost(None)
    while scene.relay.connections & {scene.client}:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    assert scene.nodes[0].wires[0].closed


async def test_a_connection_is_closed_where_the_client_says_something_of_its_own(scene: Scene) -> None:
    """At another node."""
    await scene.sends(A)
    scene.replies(0, OK)
    await scene.sends(B)
    scene.replies(1, OK)
    await scene.sends(encode([b"CLIENT", b"SETNAME", b"x"]))
    scene.replies(1, OK)
    assert scene.nodes[0].wires[0].closed
    scene.nodes[0].protocols[0].connection_lost(None)
    assert not scene.wire.closed


async def test_a_node_that_serves_nothing_any_more_is_left(scene: Scene) -> None:
    """By every client."""
    await scene.sends(A)
    scene.replies(0, OK)
    one, two = scene.view.nodes
    scene.routes.viewed(View((ClusterNode("0", "h", 1), two)))
    assert scene.nodes[0].wires[0].closed
    assert not scene.wire.closed
    assert one.slots


async def test_a_client_is_told_the_host_that_it_knows(scene: Scene) -> None:
    """For all nodes, at the port of the sidecar."""
    await scene.sends(encode([b"SUBSCRIBE", b"x"]))
    node = next(node for node in scene.nodes if node.wires)
    node.protocols[0].data_received(b"-MOVED 5 127.0.0.1:6379\r\n")
    assert scene.wire.written == b"-MOVED 5 192.0.2.1:6380\r\n"
