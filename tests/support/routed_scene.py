"""A relay, and a cluster of two nodes behind it, with one client who is routed: its connections without a network."""

import asyncio
from typing import cast

from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.routed_port import RoutedDownstream, RoutedPort
from asynq_ttl.relay.routes import Routes
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.session.renaming import Directory
from asynq_ttl.upstream.cluster import Cluster, Company, Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from support.conversation import Conversation
from support.relayed import Upstream, Wire


class Control(ControlConnection):
    """Remembers what it is to load, and has loaded it."""

    async def activate(self, script: Script) -> None:
        """Load it."""
        self._registry.activated(script)


class Scene:
    """A relay, and a cluster of two nodes behind it, with one client.

    Args:
        relay: has all connections.
        talk: has what all sessions share; None for one that knows nothing.
        sink: where the client's replies go; None to keep them.
    """

    def __init__(self, relay: Relay, talk: Conversation | None = None, sink: asyncio.Transport | None = None) -> None:
        self.relay = relay
        self.talk = talk or Conversation()
        self.nodes = [Upstream(), Upstream()]
        cluster = Cluster(self.nodes[0], cast("Company", None))
        table = PortTable(range(0), lambda: 6380, cluster.members.get, cluster.look)
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
        self._transport = sink or self.wire

    async def begin(self) -> None:
        """Let the client connect."""
        self.client.connection_made(self._transport)
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
