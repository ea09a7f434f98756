"""The connections to one node: where they lead, what their clients are told, and that the relay has them all."""

import asyncio

import pytest

from asynq_ttl.relay.node_port import NodePort
from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.session.renaming import Directory
from asynq_ttl.upstream.cluster import Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.values import bulk
from asynq_ttl.wire.commands import encode
from support.conversation import Conversation, complete
from support.relayed import Upstream, Wire, connected
from support.small_scripts import COMPLETE

SLOTS = b"*1\r\n*3\r\n:0\r\n:5\r\n*3\r\n" + bulk(b"10.0.0.1") + b":7000\r\n" + bulk(b"a" * 40)


class Ports:
    """Every node is at one port."""

    def of_node(self, node_id: str, host: str, port: int) -> int:
        """Return it."""
        return 6400

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return it."""
        return 6400


class Control(ControlConnection):
    """Remembers what it is to load."""

    def __init__(self, endpoint: Endpoint, registry: ScriptRegistry) -> None:
        super().__init__(endpoint, registry, lambda _: None)
        self.asked: list[Script] = []

    async def activate(self, script: Script) -> None:
        """Remember."""
        self.asked.append(script)


class Node:
    """A relay, and a node behind it."""

    def __init__(self, relay: Relay, announce: str = "", *, there: bool = True) -> None:
        self.relay = relay
        self.endpoint = Upstream()
        talk = Conversation()
        self.control = Control(self.endpoint, talk.registry)
        member = Member("a" * 40, self.endpoint, talk.registry, self.control)
        directory = Directory(Ports(), lambda: 0, lambda _: None)
        self.port = NodePort(relay, member if there else None, talk.shared, directory, announce)

    async def client(self, **extra: object) -> tuple[asyncio.Protocol, Wire]:
        """Connect a client."""
        client, wire = self.port.accept(), Wire(**extra)
        client.connection_made(wire)
        await asyncio.gather(*self.relay.tasks)
        return client, wire


@pytest.mark.parametrize(
    ("announce", "sockname", "told"),
    [
        ("", ("192.0.2.1", 6400), b"192.0.2.1"),
        ("", ("::1", 6400, 0, 0), b"::1"),
        ("", "/run/a.sock", b"127.0.0.1"),
        ("side.car", ("192.0.2.1", 6400), b"side.car"),
    ],
)
async def test_a_client_is_told_of_the_host_that_it_knows(announce: str, sockname: object, told: bytes) -> None:
    """The one that it has connected to, unless another one is announced."""
    relay, *_ = await connected()
    node = Node(relay, announce)
    client, wire = await node.client(sockname=sockname)
    client.data_received(encode([b"CLUSTER", b"SLOTS"]))
    node.endpoint.protocols[0].data_received(SLOTS[:40])
    assert wire.written == b""
    node.endpoint.protocols[0].data_received(SLOTS[40:] + b"-ASK 5 10.0.0.1:7000\r\n")
    renamed = SLOTS.replace(bulk(b"10.0.0.1") + b":7000", bulk(told) + b":6400")
    assert wire.written == renamed + b"-ASK 5 " + told + b":6400\r\n"


async def test_the_relay_has_them_all() -> None:
    """They are counted, bounded and drained with the others."""
    relay, *_ = await connected(max_connections=2)
    node = Node(relay)
    client, wire = await node.client()
    assert (len(relay.connections), relay.accepted) == (2, 2)
    _, refused = await node.client()
    assert (relay.refused, refused.written) == (1, b"")
    client.data_received(encode([b"PING"]))
    assert relay.commands == 1
    assert node.port.traffic is relay.traffic
    client.connection_lost(None)
    node.endpoint.protocols[0].connection_lost(None)
    assert len(relay.connections) == 1
    assert not wire.closed


async def test_a_node_that_is_dead_is_a_cluster_that_is_down() -> None:
    """Cluster clients know these words: they ask another node, and try again."""
    relay, *_ = await connected()
    node = Node(relay)
    node.endpoint.fault = OSError("nobody listens")
    client, wire = await node.client()
    client.data_received(encode([b"PING"]) * 2)
    assert wire.written == b"-CLUSTERDOWN asynq-ttl: node 127.0.0.1:6379 is unavailable: nobody listens\r\n" * 2


async def test_a_port_without_a_node_is_one_too() -> None:
    """Whoever believes that there is one has an old map."""
    relay, *_ = await connected()
    node = Node(relay, there=False)
    client, wire = await node.client()
    client.data_received(encode([b"PING"]))
    said = b"-CLUSTERDOWN asynq-ttl: this port's node is unavailable: no node of the cluster has this port\r\n"
    assert wire.written == said
    await node.port.activate(Conversation().registry.learn(COMPLETE))


async def test_wrappers_are_loaded_into_the_node_itself() -> None:
    """By its own connection."""
    relay, *_ = await connected()
    node = Node(relay)
    client, _ = await node.client()
    client.data_received(encode(complete(COMPLETE, name=b"EVAL")))
    await asyncio.gather(*relay.tasks)
    assert [script.text for script in node.control.asked] == [COMPLETE]
