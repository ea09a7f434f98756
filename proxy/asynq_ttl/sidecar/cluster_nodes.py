"""The nodes of a cluster in one sidecar: for each its connection for wrappers, its sessions' ground, and its port.

Each part does its own work; here they are put together, and taken apart when a node is gone.

Invariants:

* Every port listens from the start, so a node that comes has one at once, and one that is taken is known at the start.
* A connection to the port of a node leads to the node that it stands for when the client connects; one to the port of
  the sidecar leads to all nodes.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from asynq_ttl.events import Activated
from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Listener
from asynq_ttl.relay.node_port import NodePort
from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.routed_port import RoutedPort
from asynq_ttl.relay.routes import Routes
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.renaming import Directory
from asynq_ttl.session.shared import Shared
from asynq_ttl.sidecar.background import Background
from asynq_ttl.sidecar.queue_names import QueueNames
from asynq_ttl.sweep.part import MasterPart, Part
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.telemetry.logs import Repetition
from asynq_ttl.telemetry.node_telemetry import NodeTelemetry
from asynq_ttl.upstream.cluster import Cluster, Member, endpoint_at
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.topology import View

_log = logging.getLogger("asynq_ttl.cluster")


class ClusterNodes:
    """The nodes of a cluster (`upstream.cluster.Company`).

    Args:
        endpoint: its upstream names the nodes that are asked first.
        ports: those that can stand for nodes; none where all are called by the port of the sidecar.
        announce: the host that clients are told; empty for the one that they have connected to.
        relay: has all connections.
        shared: what all sessions share that lead to no node.
        background: where each node's connection is kept.
        observer: returns who is told of what is done at a node.
        sweeper: returns what sweeps a part of the queues at a node; None where nothing is to be swept.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        ports: range,
        *,
        announce: str,
        relay: Relay,
        shared: Shared,
        background: Background,
        observer: Callable[[Endpoint], NodeTelemetry],
        sweeper: Callable[[Endpoint, Part], Sweeper] | None,
    ) -> None:
        self.cluster = Cluster(endpoint, self)
        self.table = PortTable(ports, lambda: self._all_nodes, self.cluster.members.get, self.cluster.look)
        self.faults = 0
        """Replies that name nodes and could not be renamed."""
        self._endpoint = endpoint
        self._ports = ports
        self._announce = announce
        self._relay = relay
        self._shared = shared
        self._background = background
        self._observer = observer
        self._sweeper = sweeper
        self._sweepers: dict[Member, Sweeper] = {}
        self._queues = QueueNames(self.cluster)
        self._told: set[str] = set()
        self._directory = Directory(self.table, lambda: self.table.generation, self._note_fault)
        self._sessions: dict[Member, Shared] = {}
        self._routes = Routes(self.cluster, self.table, self._directory)
        self._all_nodes = ports[0] if ports else 0
        self._repetition = Repetition()

    @property
    def problem(self) -> str:
        """Why no client should come now; empty if one may."""
        members = self.cluster.masters
        if self.cluster.problem or any(not member.control.problem for member in members):
            return self.cluster.problem
        return f"no master answers: {members[0].control.problem}" if members else "no node serves a slot"

    def use(self, rewriter: Rewriter) -> None:
        """Let every session decide by another policy."""
        for shared in self._sessions.values():
            shared.use(rewriter)

    # --- clients ---------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def listening(
        self, listen: Address, listener_at: Callable[[Address, Callable[[], asyncio.Protocol]], Listener]
    ) -> AsyncIterator[None]:
        """Listen at all ports while the block runs.

        Args:
            listen: where the sidecar itself listens: the host of the ports, and the port that leads to all nodes.
            listener_at: returns what listens at an address, and makes protocols in the way that is given.

        Raises:
            ListenError: a port is taken, or cannot be used.
        """
        self._all_nodes = listen.port or self._all_nodes
        host = "127.0.0.1" if listen.path else listen.host
        listeners = [listener_at(Address(host, port), partial(self._accept_at, port)) for port in self._ports]
        try:
            for listener in listeners:
                await listener.start()
            yield
        finally:
            for listener in listeners:
                listener.close()

    def accept(self) -> asyncio.Protocol:
        """Return the protocol of a client that is led to all nodes."""
        return RoutedPort(self._relay, self._shared, self._routes, self._announce).accept()

    def _accept_at(self, port: int) -> asyncio.Protocol:
        member = self.table.member(port)
        shared = self._shared if member is None else self._sessions[member]
        return NodePort(self._relay, member, shared, self._directory, self._announce).accept()

    def _note_fault(self, why: str) -> None:
        self.faults += 1
        more = self._repetition.allows(why)
        if more is not None:
            _log.warning("a client could not be told where the nodes are: %s%s", why, more)

    # --- nodes (`upstream.cluster.Company`) -----------------------------------------------------------------------

    def enlist(self, node_id: str, address: Address) -> Member:
        """Return a new member; its connection for wrappers begins."""
        endpoint = endpoint_at(self._endpoint, address)
        registry, observer = ScriptRegistry(beside=self._shared.registry), self._observer(endpoint)
        control = ControlConnection(endpoint, registry, partial(self._tell_activated, observer))
        member = Member(node_id, endpoint, registry, control)
        shared = self._sessions[member] = self._shared.beside(registry, observer)
        self._routes.enlist(member, shared)
        self.table.enlist(member)
        self._background.start(_task_of(member), member.control.run)
        if self._ports and not self.table.has_port(member):
            _log.warning("the cluster has more nodes than --cluster-ports has ports: %s has none", address)
        elif self._ports:
            self._tell_port(member)
        return member

    def dismiss(self, member: Member) -> None:
        """Forget a member; its connections end."""
        _log.info("node %s is gone", member.address)
        self._routes.dismiss(member)
        for late in self.table.dismiss(member):
            self._tell_port(late)
        self._stop_sweeper(member)
        member.registry.leave()
        del self._sessions[member]
        self._background.stop(_task_of(member), member.control.close)

    def _tell_port(self, member: Member) -> None:
        _log.info("node %s is at port %d", member.address, self.table.port(member))

    def viewed(self, view: View) -> None:
        """Take note of a view that is believed."""
        self.table.viewed(view)
        self._routes.viewed(view)
        if self._sweeper is None:
            return
        for member in self.cluster.members.values():
            if member.is_master and member not in self._sweepers:
                sweeper = self._sweepers[member] = self._sweeper(member.endpoint, MasterPart(self._queues.names))
                self._background.start(_sweeping(member), sweeper.run)
            elif not member.is_master:
                self._stop_sweeper(member)

    @property
    def sweepers(self) -> list[Sweeper]:
        """What sweeps, one for each master."""
        return list(self._sweepers.values())

    def sweeper_at(self, member: Member) -> Sweeper | None:
        """Return what sweeps at a node; None where nothing does."""
        return self._sweepers.get(member)

    def _stop_sweeper(self, member: Member) -> None:
        sweeper = self._sweepers.pop(member, None)
        if sweeper is not None:
            self._background.stop(_sweeping(member), sweeper.close)

    async def close(self) -> None:
        """Close the sidecar's own connections."""
        for member in self.cluster.members.values():
            await member.control.close()
        await asyncio.gather(*(sweeper.close() for sweeper in self.sweepers), self._queues.close())

    def _tell_activated(self, observer: NodeTelemetry, activated: Activated) -> None:
        """Tell of a wrapper once, at the first node, and of each node that it could not be loaded into."""
        if activated.error or activated.wrapper_sha not in self._told:
            if not activated.error:
                self._told.add(activated.wrapper_sha)
            observer.activated(activated)


def _task_of(member: Member) -> str:
    return f"the connection to node {member.number}"


def _sweeping(member: Member) -> str:
    return f"the sweeper of node {member.number}"
