"""The connections of clients to one node of a cluster, and to any of them.

They are the relay's as all others are, so they are counted, bounded and drained together. What they have of their own
is the node that they lead to, and that nodes are called otherwise in what it replies.

Invariant: a client that cannot be connected to its node hears `CLUSTERDOWN`, whatever it asks. Cluster clients then ask
another node where to go, and try again.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, cast

from asynq_ttl.relay.connection import Downstream, UpstreamProtocol
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.traffic import Traffic
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.renaming import Directory, Renaming
from asynq_ttl.session.session import Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.upstream.cluster import Member

# What clients of a unix socket are told, who did not connect to any host.
_LOOPBACK = "127.0.0.1"


class NodePort:
    """All the connections of one client's node, as one of them sees them (`OpenConnections`).

    Args:
        relay: has all connections.
        member: the node; None where there is none.
        shared: what all sessions share whose node it is.
        directory: how nodes are called.
        announce: the host that clients are told; empty for the one that they have connected to.
    """

    def __init__(
        self, relay: Relay, member: Member | None, shared: Shared, directory: Directory, announce: str
    ) -> None:
        self.shared = shared
        self._relay = relay
        self._member = member
        self._directory = directory
        self._announce = announce

    @property
    def traffic(self) -> Traffic:
        """The counters of what passes."""
        return self._relay.traffic

    def unavailable(self, reason: str) -> str:
        """Return the error for a client that cannot be connected."""
        where = f"node {self._member.address}" if self._member is not None else "this port's node"
        return f"CLUSTERDOWN asynq-ttl: {where} is unavailable: {reason}"

    def accept(self) -> Downstream:
        """Return the protocol of a new client connection."""
        return NodeDownstream(self)

    def renaming(self) -> Renaming:
        """Return what renames nodes for a client."""
        return Renaming(self._directory)

    def host_for(self, transport: asyncio.BaseTransport) -> str:
        """Return the host that the client of a connection is told."""
        if self._announce:
            return self._announce
        name: Any = transport.get_extra_info("sockname")
        return str(name[0]) if isinstance(name, tuple) else _LOOPBACK

    def admit(self, connection: Downstream) -> str:
        """Take a new client in; return the error that it is answered with instead where it may not stay."""
        return self._relay.admit(connection)

    def turn_away(self, connection: Downstream) -> None:
        """Count a client as refused: it is told why, and then hung up on."""
        self._relay.turn_away(connection)

    def ended(self, connection: Downstream) -> None:
        """Forget a connection: nothing of its client is held any longer."""
        self._relay.ended(connection)

    def spawn(self, connection: Downstream, work: Coroutine[None, None, None]) -> None:
        """Do what a connection waits for; close it if that raises, so that its client does not wait for ever."""
        self._relay.spawn(connection, work)

    async def connect(self, connection: Downstream) -> UpstreamProtocol:
        """Open a client's connection to the node.

        Raises:
            OSError: it cannot be reached, or there is none.
            TimeoutError: it does not answer in time.
        """
        if self._member is None:
            raise OSError("no node of the cluster has this port")
        renaming = cast("NodeDownstream", connection).renaming  # it made none else
        return await self._member.endpoint.open(lambda: NodeUpstream(connection, renaming))

    async def activate(self, script: Script) -> None:
        """Load a script's wrapper into the node, or give up after a while."""
        if self._member is not None:
            await self._member.control.activate(script)


class NodeDownstream(Downstream):
    """A client's side of a connection to a node."""

    def __init__(self, port: NodePort) -> None:
        super().__init__(port)
        self._port = port
        self.renaming = port.renaming()
        self.session = Session(port.shared, questions=self.renaming)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Find out which host the client has connected to; then connect to the node."""
        self.renaming.tell_host(self._port.host_for(transport).encode())
        super().connection_made(transport)


class NodeUpstream(UpstreamProtocol):
    """A node's side of a connection.

    Args:
        downstream: the client's side.
        renaming: says what the client gets for bytes of the node.
    """

    def __init__(self, downstream: Downstream, renaming: Renaming) -> None:
        super().__init__(downstream)
        self.data_received = renaming.lead_to(downstream.upstream_received)  # type: ignore[assignment, method-assign] # asyncio calls it all the same
