"""The connections of clients for whom a cluster is one Redis: each has one to every node that its commands go to.

What goes where is decided in `session.routing`; here are the sockets. They are the relay's as all others are, so they
are counted, bounded and drained together.

`pass_on` and `take_reply` say what becomes of a chunk. For nearly every chunk the same is also compiled (`forwarding`).

Invariants:

* A client has at most one connection to a node, and all of them end with its own.
* Back-pressure is that of one connection: while any node is slow to take what was written, nothing is read from the
  client; while the client is slow, nothing is read from any node.
"""

import asyncio
from functools import partial
from typing import cast

from asynq_ttl.relay.connection import Downstream, UpstreamProtocol
from asynq_ttl.relay.forwarding import Pause, route
from asynq_ttl.relay.node_port import NodePort
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.routes import Route, Routes
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.routing.destinations import UNUSUAL
from asynq_ttl.session.routing.flight import Flight
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.session.routing.order import Order
from asynq_ttl.session.routing.router import Router
from asynq_ttl.session.routing.transaction import Transaction
from asynq_ttl.session.shared import Shared

# How long one attempt to connect to a node may take, and how long a moment is.
_ATTEMPT_SECONDS = 1.5
_MOMENT_SECONDS = 0.05
# What a client that is gone has sent may wait so long for what was sent before, which may block.
_LAST_SECONDS = 5.0


class RoutedPort(NodePort):
    """All the connections of clients that are routed, as one of them sees them.

    Args:
        relay: has all connections.
        shared: what all sessions share that lead to no node.
        routes: who serves which slot.
        announce: the host that clients are told; empty for the one that they have connected to.
    """

    def __init__(self, relay: Relay, shared: Shared, routes: Routes, announce: str) -> None:
        super().__init__(relay, None, shared, routes.directory, announce)
        self.routes = routes

    def accept(self) -> Downstream:
        """Return the protocol of a new client connection."""
        return RoutedDownstream(self)

    async def connect(self, connection: Downstream) -> UpstreamProtocol:
        """Return what stands for Redis: nodes are connected to when a command goes to them."""
        upstream = cast("RoutedDownstream", connection).upstream  # it made none else
        self.routes.admit(upstream)
        return upstream


class RoutedDownstream(Downstream):
    """The client's side of a connection that is routed."""

    def __init__(self, port: RoutedPort) -> None:
        super().__init__(port)
        self._port = port
        self.upstream = RoutedUpstream(self, port)
        self._router = self.upstream.router
        self.session = self._router

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out which host the client has connected to."""
        self._router.order.tell_host(self._port.host_for(transport).encode())
        super().connection_made(transport)


class RoutedUpstream(UpstreamProtocol):
    """What stands for Redis: the connections of one client to nodes (`session.routing.nodes.Outside`).

    Args:
        downstream: the client's side.
        port: has all connections.
    """

    __slots__ = "_client", "_connections", "_order", "_over", "_port", "router"

    def __init__(self, downstream: Downstream, port: RoutedPort) -> None:
        super().__init__(downstream)
        self.router = Router(port.routes, self, port.shared)
        self._order = self.router.order
        self._port = port
        self._client = downstream
        self._connections: dict[Node, NodeConnection] = {}
        self._over = False

    # --- what the router asks for -----------------------------------------------------------------------------------

    def to_client(self, data: bytes) -> None:
        """Give the client bytes."""
        if not self._over:
            self._client.upstream_received(data)

    def send(self, node: Node, data: bytes) -> None:
        """Send bytes to a node."""
        self._connections[node].write(data)

    def open(self, node: Node) -> None:
        """Connect to a node."""
        self._port.spawn(self._client, self._connect(cast("Route", node)))  # there are no others

    def end(self, node: Node) -> None:
        """Tell a node that no more commands come."""
        self._connections[node].write_eof()

    def drop(self, node: Node) -> None:
        """Close the connection to a node."""
        self._connections.pop(node).abort()

    def activate(self, node: Node, script: Script) -> None:
        """Load a wrapper into a node."""
        self._port.spawn(self._client, self._activate(cast("Route", node), script))  # there are no others

    def wait(self) -> None:
        """Wait for a moment."""
        asyncio.get_running_loop().call_later(_MOMENT_SECONDS, self._order.go_on)

    def hold(self, full: bool) -> None:  # noqa: FBT001 - a callback
        """Read no more from the client while it is full."""
        (self._client.pause if full else self._client.unpause)(Pause.WAITING)

    def hang_up(self) -> None:
        """Close all connections once both sides have what was written."""
        if not self._over:
            self._over = True
            self._port.routes.forget(self)
            for connection in self._connections.values():
                connection.close()
            # Not at once: whoever asks for it is in the middle of something.
            asyncio.get_running_loop().call_soon(self._client.upstream_lost)

    # --- what happens -----------------------------------------------------------------------------------------------

    async def _connect(self, node: Route) -> None:
        try:
            async with asyncio.timeout(_ATTEMPT_SECONDS):
                connection = await node.member.endpoint.open(lambda: NodeConnection(self, node, self._client))
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
            self._order.failed(f"node {node.member.address} is unavailable: {reason}")
            return
        if connection.is_gone:
            self._order.failed(f"node {node.member.address} has hung up")
            return
        if self._over:
            connection.abort()
            return
        self._connections[node] = connection
        if self._held:
            connection.pause_reading()
        self._order.opened(node)

    async def _activate(self, node: Route, script: Script) -> None:
        await node.member.control.activate(script)
        self._order.go_on()

    def take_reply(self, node: Node, data: bytes) -> None:
        """Take bytes of a node."""
        self._order.receive(node, data)

    node_received = take_reply

    def node_lost(self, node: Node, connection: "NodeConnection") -> None:
        """Take note that a node has hung up."""
        self._client.unpause(Pause.FULL)
        if self._connections.get(node) is connection:
            del self._connections[node]
            self._order.lost(node)

    def node_left(self, node: Node, *, dead: bool) -> None:
        """Take note that a node serves nothing any more (`routes.RoutedClient`)."""
        self._order.left(node, dead=dead)

    # --- what the client's side asks for ----------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop reading from the nodes."""
        self._held = True
        for connection in self._connections.values():
            connection.pause_reading()

    def resume_reading(self) -> None:
        """Read from the nodes again."""
        self._held = False
        for connection in self._connections.values():
            connection.resume_reading()

    def write_eof(self) -> None:
        """Take note that no more commands come."""
        self._order.end(gone=False)

    def close(self) -> None:
        """Take note that the client is gone; what it sent last has some time to go on its way."""
        self._order.end(gone=True)
        if not self._over:
            asyncio.get_running_loop().call_later(_LAST_SECONDS, self.hang_up)

    def abort(self) -> None:
        """Close all connections at once."""
        for connection in tuple(self._connections.values()):
            connection.abort()
        self._order.hang_up()


class NodeConnection(UpstreamProtocol):
    """A node's side of one of a client's connections."""

    def __init__(self, side: RoutedUpstream, node: Node, downstream: Downstream) -> None:
        super().__init__(downstream)
        self._side = side
        self._node = node
        self.data_received = partial(side.node_received, node)  # type: ignore[method-assign] # asyncio calls it all the same

    @property
    def is_gone(self) -> bool:
        """Whether the node has hung up."""
        return self._transport is None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Take note that the node has hung up."""
        self._transport = None
        self._side.node_lost(self._node, self)


route(RoutedDownstream, RoutedUpstream, Routes, Router, Transaction, Order, Flight, Lane, unusual=UNUSUAL)
