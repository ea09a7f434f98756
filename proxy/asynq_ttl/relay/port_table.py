"""Which port stands for which node of a cluster. No I/O.

Invariants:

* A node keeps its port for as long as it is a member, also when it moves.
* No port stands for two nodes. Where there are more nodes than ports, the last ones are called by the port of the
  sidecar itself, which leads to all nodes, until a port becomes free. Without any ports all nodes are called so.
* Every answer is a port of the sidecar.
* A node is what the cluster's own view has named. A client can have a script reply with whatever it likes, and where
  the sidecar connects to, it sends the cluster's password: so an address that no view has named leads to no node.

A client that has learnt the ports from another sidecar, or from one before a restart, may come to the wrong node. That
does no harm: Redis sends it to the right one.
"""

from collections.abc import Callable, Iterable

from asynq_ttl.upstream.cluster import Member
from asynq_ttl.wire.cluster.topology import View


class PortTable:
    """The ports of a sidecar in front of a cluster.

    Args:
        ports: those that can stand for nodes.
        any_node: returns the port that leads to any node.
        known: returns the member with an ID; None where the cluster has named no such node.
        look: asks the cluster for its nodes at once.
    """

    def __init__(
        self,
        ports: Iterable[int],
        any_node: Callable[[], int],
        known: Callable[[str], Member | None],
        look: Callable[[], None],
    ) -> None:
        self.generation = 0
        """Grows whenever a node gets another port."""
        self._any_node = any_node
        self._known = known
        self._look = look
        self._members: dict[int, Member] = {}
        self._waiting: list[Member] = []
        # The port that has been free for longest is the first.
        self._free = list(ports)
        self._has_ports = bool(self._free)
        self._view: View | None = None
        # By all the names under which the cluster knows them, the IDs of nodes.
        self._ids: dict[tuple[str, int], str] = {}

    def member(self, port: int) -> Member | None:
        """Return the node that a port stands for."""
        return self._members.get(port)

    def port(self, member: Member) -> int:
        """Return the port that stands for a node; that of the sidecar itself where there are too few."""
        return next((port for port, other in self._members.items() if other is member), self._any_node())

    @property
    def portless(self) -> int:
        """How many nodes have no port, since there are more of them than ports."""
        return len(self._waiting) if self._has_ports else 0

    def has_port(self, member: Member) -> bool:
        """Say whether a node has a port of its own."""
        return member not in self._waiting

    def enlist(self, member: Member) -> None:
        """Give a port to a node, now or when one becomes free."""
        self._waiting.append(member)
        self._give()

    def dismiss(self, member: Member) -> list[Member]:
        """Take the port of a node that is gone; return who has got a port by that."""
        if member in self._waiting:
            self._waiting.remove(member)
            return []
        port = self.port(member)
        del self._members[port]
        self._free.append(port)
        return self._give()

    def _give(self) -> list[Member]:
        """Give free ports to those who wait for one; return who they are."""
        self.generation += 1
        given = []
        while self._waiting and self._free:
            given.append(self._waiting.pop(0))
            self._members[self._free.pop(0)] = given[-1]
        return given

    def viewed(self, view: View) -> None:
        """Take note of the names under which the cluster knows its nodes."""
        self._view = view
        self._ids = {(name, node.port): node.id for node in view.nodes for name in (node.host, node.hostname) if name}

    # --- what names are asked for (`wire.cluster.naming.Ports`) ---------------------------------------------------

    def of_node(self, node_id: str, host: str, port: int) -> int:  # noqa: ARG002 - where it is, a view has to say
        """Return the port for a node, by its ID; that of the sidecar itself until a view has named the node."""
        member = self._known(node_id)
        if member is None:
            self._look()
        return self.port(member) if member is not None else self._any_node()

    def at_address(self, host: str, port: int, slot: int) -> int:
        """Return the port for whatever node is at an address; the host is empty where that is not said."""
        self._look()
        member = self.member_at(host, port, slot)
        return self.port(member) if member is not None else self._any_node()

    def member_at(self, host: str, port: int, slot: int) -> Member | None:
        """Return the node at an address; None where that cannot be told. The arguments are as for `at_address`."""
        node_id = self._ids.get((host, port))
        if node_id is not None:
            return self._known(node_id)
        at = [member for member in (*self._members.values(), *self._waiting) if member.address.port == port]
        if host:
            at = [member for member in at if member.address.host == host]
            return at[0] if at else None
        owner = self._view.owner(slot) if self._view is not None else None
        if len(at) != 1 and owner is not None:
            return self._known(owner.id)
        return at[0] if at else None
