"""How the nodes of a cluster are, one by one and as metrics."""

from typing import Any

import pytest

from asynq_ttl.net.address import Address
from asynq_ttl.sidecar import node_figures
from asynq_ttl.sidecar.cluster_nodes import ClusterNodes
from asynq_ttl.sidecar.node_figures import NodeState, node_states
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from support.in_process import make_sidecar
from support.small_scripts import COMPLETE

NAMES = "asynq_ttl_node_", "asynq_ttl_cluster_portless", "asynq_ttl_cluster_unnamed"


def scene(*nodes: tuple[str, int, bool]) -> tuple[Sidecar, ClusterNodes]:
    """Return a sidecar in front of a cluster of nodes, each with its ID, its port, and whether it serves slots."""
    url = "redis+cluster://127.0.0.1:1"
    sidecar = make_sidecar(url, cluster_ports=range(6400, 6402))
    sidecar = make_sidecar(
        url, telemetry=Telemetry(sidecar.settings.upstream, {}, pulled=True), cluster_ports=range(6400, 6402)
    )
    assert sidecar.nodes is not None
    for name, port, serves in nodes:
        member = sidecar.nodes.cluster.meet(name, Address("127.0.0.1", port))
        member.node = ClusterNode(name, "127.0.0.1", port, slots=((0, 4), (7, 7)) if serves else ())
        member.control.problem = ""
    sidecar.nodes.viewed(View(()))
    return sidecar, sidecar.nodes


def told(sidecar: Sidecar) -> dict[str, float]:
    """Return what is told of nodes in Prometheus's format."""
    lines = sidecar.telemetry.metrics.text("")[0].decode().splitlines()
    found: dict[str, Any] = dict(line.rsplit(" ", 1) for line in lines if line.startswith(NAMES))
    return {name: float(value) for name, value in found.items()}


async def test_each_node_is_told_of() -> None:
    """Where it is, what it serves, what is loaded there, who sweeps it, and why it cannot be used."""
    sidecar, nodes = scene(("c", 3, False), ("b", 2, True), ("a", 1, True))
    script = sidecar.registry.learn(COMPLETE)
    members = nodes.cluster.members
    for name in "ab":
        members[name].registry.activated(members[name].registry.as_here(script))
    members["b"].registry.flushed()
    members["c"].control.problem = "away"
    sweeper = nodes.sweeper_at(members["a"])
    assert sweeper is not None
    sweeper._leads = True
    assert node_states(nodes) == [
        NodeState("a", "127.0.0.1:1", 6400, "master", 6, 1, sweeps=True, problem=""),
        NodeState("b", "127.0.0.1:2", 6401, "master", 6, 0, sweeps=False, problem=""),
        NodeState("c", "127.0.0.1:3", 6400, "replica", 0, 0, sweeps=False, problem="away"),
    ]
    nodes.faults = 3
    assert told(sidecar) == {
        'asynq_ttl_node_up{node="127.0.0.1:1",role="master"}': 1,
        'asynq_ttl_node_up{node="127.0.0.1:2",role="master"}': 1,
        'asynq_ttl_node_up{node="127.0.0.1:3",role="replica"}': 0,
        'asynq_ttl_node_slots{node="127.0.0.1:1"}': 6,
        'asynq_ttl_node_slots{node="127.0.0.1:2"}': 6,
        'asynq_ttl_node_slots{node="127.0.0.1:3"}': 0,
        'asynq_ttl_node_wrappers{node="127.0.0.1:1"}': 1,
        'asynq_ttl_node_wrappers{node="127.0.0.1:2"}': 0,
        'asynq_ttl_node_wrappers{node="127.0.0.1:3"}': 0,
        "asynq_ttl_cluster_portless": 1,
        "asynq_ttl_cluster_unnamed_total": 3,
    }
    await sidecar.background.end()
    await nodes.close()


async def test_what_is_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many nodes there are."""
    monkeypatch.setattr(node_figures, "MAX_NODES", 2)
    sidecar, nodes = scene(*((name, number, False) for number, name in enumerate("abc", 1)))
    assert len(node_states(nodes)) == 2
    await sidecar.background.end()


def test_without_a_cluster_there_are_no_nodes() -> None:
    """And nothing is wrong with them."""
    telemetry = Telemetry(make_sidecar().settings.upstream, {}, pulled=True)
    sidecar = make_sidecar(telemetry=telemetry)
    assert node_states(sidecar.nodes) == []
    assert told(sidecar) == {"asynq_ttl_cluster_portless": 0, "asynq_ttl_cluster_unnamed_total": 0}
