"""What is told of the nodes of a cluster: one by one for whoever looks, and as metrics.

It is read on other threads: nothing here changes anything.

Invariant: what is told is bounded, however many nodes there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from asynq_ttl.rewriting.registry import Status
from asynq_ttl.sidecar.cluster_nodes import ClusterNodes
from asynq_ttl.telemetry.metrics import Metrics
from asynq_ttl.upstream.cluster import Member

# More nodes than this are not told of. No cluster is larger.
MAX_NODES = 1_000


@dataclass(frozen=True, slots=True)
class NodeState:
    """How a node is.

    Attributes:
        id: its ID.
        address: where it is.
        port: the sidecar's port for it; that of `--listen` where it has none of its own.
        role: `master` where it serves slots, else `replica`.
        slots: how many slots it serves.
        wrappers: how many wrappers are loaded there.
        sweeps: whether this sidecar sweeps there.
        problem: why the sidecar's own connection to it does not work; empty where it does.
    """

    id: str
    address: str
    port: int
    role: str
    slots: int
    wrappers: int
    sweeps: bool
    problem: str


def node_states(nodes: ClusterNodes | None) -> list[NodeState]:
    """Return how the nodes are: masters first, by their addresses; none without a cluster."""
    members = list(nodes.cluster.members.values()) if nodes is not None else []
    states = [_state(nodes, member) for member in islice(members, MAX_NODES) if nodes is not None]
    return sorted(states, key=lambda state: (state.role, state.address))


def _state(nodes: ClusterNodes, member: Member) -> NodeState:
    sweeper = nodes.sweeper_at(member)
    return NodeState(
        id=member.id,
        address=str(member.address),
        port=nodes.table.port(member),
        role="master" if member.is_master else "replica",
        slots=sum(last - first + 1 for first, last in member.node.slots) if member.node is not None else 0,
        wrappers=sum(script.status is Status.ACTIVE and not script.flushed for script in member.registry.wrapped()),
        sweeps=sweeper is not None and sweeper.leads,
        problem=member.control.problem,
    )


def register_nodes(metrics: Metrics, nodes: Callable[[], ClusterNodes | None]) -> None:
    """Declare how the nodes of a cluster are.

    Args:
        metrics: where.
        nodes: returns them; None without a cluster.
    """

    def states() -> list[NodeState]:
        return node_states(nodes())

    gauge = metrics.gauge
    gauge(
        "asynq_ttl.node.up",
        "1 if a node of the cluster answers the sidecar's own connection.",
        lambda: {(state.address, state.role): int(not state.problem) for state in states()},
        ("node", "role"),
    )
    gauge(
        "asynq_ttl.node.slots",
        "Slots that a node of the cluster serves.",
        lambda: {(state.address,): state.slots for state in states()},
        ("node",),
    )
    gauge(
        "asynq_ttl.node.wrappers",
        "Wrappers that are loaded into a node of the cluster.",
        lambda: {(state.address,): state.wrappers for state in states()},
        ("node",),
    )
    gauge(
        "asynq_ttl.cluster.portless",
        "Nodes of the cluster without a port of their own.",
        lambda: found.table.portless if (found := nodes()) is not None else 0,
    )
    metrics.counter(
        "asynq_ttl.cluster.unnamed",
        "Replies that name nodes and could not be renamed.",
        lambda: found.faults if (found := nodes()) is not None else 0,
    )
