"""The nodes of a cluster, as the routers of clients know them: who serves which slot. No I/O.

Invariant: a node is the same object for as long as it is a member, whatever its role and its address.
"""

import itertools
from collections.abc import Sequence
from typing import Protocol

from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.session.renaming import Directory
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.session.shared import Shared
from asynq_ttl.upstream.cluster import Cluster, Member
from asynq_ttl.wire.cluster.slots import SLOTS
from asynq_ttl.wire.cluster.topology import View


class Route:
    """A node, and what is shared by the sessions that lead to it.

    Args:
        member: the node.
        shared: what they share.
    """

    def __init__(self, member: Member, shared: Shared) -> None:
        self.member = member
        self._shared = shared

    @property
    def shared(self) -> Shared:
        """What all sessions share that lead to it."""
        return self._shared


class RoutedClient(Protocol):
    """A client that may have a connection to any node."""

    def node_left(self, node: Node, *, dead: bool) -> None:
        """Take note that a node serves nothing any more, and whether it is dead."""


class Routes:
    """Who serves which slot (`session.routing.nodes.Nodes`).

    Args:
        cluster: follows the nodes.
        table: who knows the node at an address.
        directory: how nodes are called.
    """

    __slots__ = (
        "_clients", "_cluster", "_firsts", "_owners", "_routes", "_served", "_table", "_turns", "directory",
    )  # fmt: skip

    def __init__(self, cluster: Cluster, table: PortTable, directory: Directory) -> None:
        self.directory = directory
        self._cluster = cluster
        self._table = table
        self._routes: dict[Member, Route] = {}
        self._owners: list[Route | None] = [None] * SLOTS
        self._firsts: list[int] = []
        self._served: dict[str, tuple[tuple[int, int], ...]] = {}
        self._clients: set[RoutedClient] = set()
        self._turns = itertools.count()

    def enlist(self, member: Member, shared: Shared) -> None:
        """Take a new node in."""
        self._routes[member] = Route(member, shared)

    def dismiss(self, member: Member) -> None:
        """Forget a node."""
        del self._routes[member]

    def viewed(self, view: View) -> None:
        """Take note of who serves which slot."""
        served = {node.id: node.slots for node in view.masters()}
        if served == self._served:
            return
        before, self._served = self._served, served
        owners: list[Route | None] = [None] * SLOTS
        self._firsts = sorted(min(first for first, _ in slots) for slots in served.values())
        for node_id, slots in served.items():
            route = self._route(node_id)
            for first, last in slots:
                owners[first : last + 1] = [route] * (last + 1 - first)
        self._owners = owners
        alive = {node.id for node in view.nodes if not node.seems_dead}
        for node_id in before.keys() - served.keys():
            self._tell_left(node_id, dead=node_id not in alive)

    def _route(self, node_id: str) -> Route | None:
        member = self._cluster.members.get(node_id)
        return self._routes.get(member) if member is not None else None

    def _tell_left(self, node_id: str, *, dead: bool) -> None:
        route = self._route(node_id)
        if route is not None:
            for client in tuple(self._clients):
                client.node_left(route, dead=dead)

    def admit(self, client: RoutedClient) -> None:
        """Tell a client from now on of nodes that serve nothing any more."""
        self._clients.add(client)

    def forget(self, client: RoutedClient) -> None:
        """Tell it no longer."""
        self._clients.discard(client)

    # --- what routers ask for ---------------------------------------------------------------------------------------

    def owner(self, slot: int) -> Node | None:
        """Return the master that serves a slot; None if none does."""
        return self._owners[slot]

    def some(self) -> Node | None:
        """Return a master, each in its turn; one that answers, if any does."""
        masters = self._cluster.masters
        up = [member for member in masters if not member.control.problem] or masters
        return self._routes[up[next(self._turns) % len(up)]] if up else None

    def masters(self) -> Sequence[int]:
        """Return the first slot of each master, in order."""
        return self._firsts

    def at(self, host: str, port: int, slot: int) -> Node | None:
        """Return the node to which a client was sent; None if that cannot be told."""
        member = self._table.member_at(host, port, slot)
        return self._routes[member] if member is not None else None

    def look(self) -> None:
        """Have the cluster asked at once for who serves which slot."""
        self._cluster.look()
