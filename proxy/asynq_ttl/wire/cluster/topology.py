"""A cluster as one of its nodes sees it, read from `CLUSTER NODES`, and whether that is to be believed.

Source of the format: the Redis documentation, "CLUSTER NODES".

Invariants:

* A view wins only if the node that gives it sees most of the masters, so none that is cut off is believed.
* It wins only if it is not older than what is known, by the newest configuration epoch in it.
* It wins only if most of the known masters are in it, so a node that was reset or belongs to another cluster is not
  believed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class NoTopologyError(ValueError):
    """What a node has said is no reply that names nodes, as far as that is understood."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A node, as another one or it itself sees it.

    Attributes:
        id: its ID, for good.
        host: its address; empty where that is not known.
        port: its port, for connections of the kind on which the view was asked for; 0 where that is not known.
        hostname: its name, if it has announced one.
        master: the ID of its master; empty for a master.
        epoch: its configuration epoch.
        flags: as Redis has them, such as `master`, `fail` and `myself`.
        linked: whether the node that gives the view has a connection to it.
        slots: the ranges of slots that it serves, first and last.
        moving: the slots that are on their way to it or from it.
    """

    id: str
    host: str
    port: int
    hostname: str = ""
    master: str = ""
    epoch: int = 0
    flags: frozenset[str] = frozenset()
    linked: bool = True
    slots: tuple[tuple[int, int], ...] = ()
    moving: frozenset[int] = frozenset()

    @property
    def is_master(self) -> bool:
        """Whether it is a master."""
        return "master" in self.flags

    @property
    def seems_dead(self) -> bool:
        """Whether the node that gives the view cannot reach it, or all have agreed that nobody can."""
        return not self.linked or not self.flags.isdisjoint(("fail", "fail?"))

    @property
    def is_there(self) -> bool:
        """Whether it can be connected to: it has an address, and is no stranger any more."""
        return self.port > 0 and self.flags.isdisjoint(("noaddr", "handshake"))


@dataclass(frozen=True, slots=True)
class View:
    """A cluster as one of its nodes sees it."""

    nodes: tuple[ClusterNode, ...]

    @property
    def epoch(self) -> int:
        """The newest configuration epoch of a node: it grows whenever slots change hands."""
        return max((node.epoch for node in self.nodes), default=0)

    def masters(self) -> Iterator[ClusterNode]:
        """Yield the nodes that serve slots."""
        return (node for node in self.nodes if node.slots)

    def sees_most(self) -> bool:
        """Say whether the node that gives the view sees more than half of the masters."""
        alive = [not node.seems_dead for node in self.masters()]
        return 2 * sum(alive) > len(alive)

    def beats(self, known: "View | None") -> bool:
        """Say whether this view is to be believed.

        Args:
            known: the one that was believed last; None if there is none, or if nobody has confirmed it for long.
        """
        if not self.sees_most():
            return False
        if known is None:
            return True
        mine, before = {node.id for node in self.nodes}, [node.id for node in known.masters()]
        return self.epoch >= known.epoch and 2 * sum(node in mine for node in before) > len(before)

    def owner(self, slot: int) -> ClusterNode | None:
        """Return the master that serves a slot; None if none does."""
        for node in self.masters():
            if any(first <= slot <= last for first, last in node.slots):
                return node
        return None


def parse_nodes(text: str) -> View:
    """Read what `CLUSTER NODES` says.

    Raises:
        NoTopologyError: it is nothing of the kind.
    """
    return View(tuple(_node(line) for line in text.splitlines() if line))


def _node(line: str) -> ClusterNode:
    try:
        node_id, address, flags, master, _ping, _pong, epoch, link, *slots = line.split(" ")
        host, port, hostname, _ = split_address(address)
        ranges = [_range(text) for text in slots if not text.startswith("[")]
        # [SLOT->-ID] leaves, [SLOT-<-ID] arrives.
        moving = frozenset(int(text[1:].partition("-")[0]) for text in slots if text.startswith("["))
        return ClusterNode(
            id=node_id,
            host=host,
            port=port,
            hostname=hostname,
            master="" if master == "-" else master,
            epoch=int(epoch),
            flags=frozenset(flags.split(",")),
            linked=link == "connected",
            slots=tuple(ranges),
            moving=moving,
        )
    except ValueError:
        raise NoTopologyError("a line of CLUSTER NODES is not understood") from None


def split_address(text: str) -> tuple[str, int, str, str]:
    """Split `IP:PORT@BUS[,HOSTNAME[,NAME=VALUE...]]`, where the IP may be one of IPv6 or missing.

    Returns:
        Address, port, host name (empty without one), and what stands behind the port and in front of the host name.

    Raises:
        ValueError: it is no such text.
    """
    address, _, more = text.partition(",")
    hostname = more.partition(",")[0]
    socket, at, bus = address.partition("@")
    host, _, port = socket.rpartition(":")
    return host, int(port), hostname, at + bus


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def preferred_endpoints(slots: Sequence[Any]) -> dict[str, tuple[str, int]]:
    """Return by ID where clients are to connect to nodes, as `CLUSTER SLOTS` says.

    The host is empty where it is the one at which the node that was asked is.

    Raises:
        NoTopologyError: it is no such reply.
    """
    try:
        nodes = [node for _first, _last, *nodes in slots for node in nodes]
        return {text_of_id(node[2]): (_host(node[0]), int(node[1])) for node in nodes}
    except (TypeError, ValueError, IndexError):
        raise NoTopologyError("CLUSTER SLOTS is not understood") from None


def text_of_id(node_id: bytes | str) -> str:
    """Return the ID of a node as text."""
    return node_id if isinstance(node_id, str) else node_id.decode("latin-1")


def _host(host: bytes | str | None) -> str:
    text = "" if host is None else text_of_id(host)
    return "" if text == "?" else text
