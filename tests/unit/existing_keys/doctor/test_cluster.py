"""What the doctor makes of a cluster's nodes, roles and slots."""

from typing import Any

import pytest

from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.doctor import cluster
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.wire.cluster.topology import ClusterNode
from support.scripted_cluster import ScriptedNode, scripted_cluster, unreachable

POLICY = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 7d}}]", "policy.yaml")
MASTER = ClusterNode("m", "h", 1, flags=frozenset({"master"}), slots=((0, 16_383),))
REPLICA = ClusterNode("r", "h", 2, master="m", flags=frozenset({"slave"}))
DEAD = ClusterNode("d", "h", 3, master="gone", flags=frozenset({"slave", "fail"}))
EMPTY = ClusterNode("e", "h", 4, flags=frozenset({"master"}))


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedNode]:
    """Three masters."""
    nodes = scripted_cluster(monkeypatch)

    def client(_: object, address: Address) -> Any:
        return nodes[address.port - 7001]

    monkeypatch.setattr(cluster, "node_client", client)
    for node in nodes:
        monkeypatch.setattr(node, "client_list", lambda: [{"name": "asynq-ttl-tools"}], raising=False)
        monkeypatch.setattr(node, "config_get", lambda _: {"tls-cluster": "no"}, raising=False)
    return nodes


def checked(scheme: str = "redis+cluster") -> dict[str, Finding]:
    """Return what is found, by code."""
    database = ClusterDatabase(parse_upstream(f"{scheme}://127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003"))
    database.masters.find()
    found = {finding.code: finding for finding in cluster.check(database, POLICY)}
    return found | {finding.code: finding for finding in cluster.check_read(database)}


def placed(*nodes: ClusterNode) -> list[cluster.Placed]:
    """Return nodes, and where they are."""
    return [(node, Address(node.host, node.port)) for node in nodes]


def test_nodes_and_roles() -> None:
    """Each is named with its role; a sidecar needs a port for each."""
    found = {finding.code: finding for finding in cluster.check_nodes(placed(MASTER, REPLICA, DEAD, EMPTY))}
    assert found["cluster"].examples == [
        "h:1 is a master with the slots 0-16383",
        "h:2 is a replica of h:1",
        "h:3 is a replica of gone, and seems dead",
        "h:4 is a master without slots",
    ]
    assert "cluster-replicas" not in found
    assert "4 or more" in found["cluster-ports"].what


def test_a_master_without_a_replica() -> None:
    """It is named."""
    found = {finding.code: finding for finding in cluster.check_nodes(placed(MASTER))}
    assert (found["cluster-replicas"].severity, found["cluster-replicas"].examples) == (Severity.WARNING, ["h:1"])


def test_what_is_the_same_everywhere_is_told_once() -> None:
    """All else with the names of the nodes, and not of too many."""
    same, other = (Finding(code, Severity.FINE, "well", "", "") for code in ("same", "other"))
    names = [f"n{number}" for number in range(9)]
    found = [(name, same) for name in names] + [(name, other) for name in names[:7]]
    assert [finding.what for finding in cluster.alike(found, 9)] == [
        "all 9 nodes: well",
        "n0, n1, n2, n3, n4 and 2 more: well",
    ]


def test_a_whole_cluster(nodes: list[ScriptedNode]) -> None:
    """Each server is checked, and who is connected to any of them."""
    found = checked()
    assert found["cluster-slots"].severity is Severity.FINE
    assert found["version"].what == "all 3 nodes: the server is Redis 7.0.15"
    assert found["bypass"].what.startswith("no sidecar")
    assert not {"cluster-away", "cluster-unread", "cluster-moving", "cluster-tls"} & set(found)


def test_slots_that_are_away_or_on_their_way(nodes: list[ScriptedNode]) -> None:
    """The first is a danger."""
    nodes[0].moving = "[5->-node-2]"
    assert checked()["cluster-slots"].what == "slots are on their way to another node: 5"
    nodes[0].moving = ""
    nodes[2].slots = (10_930, 16_383)
    found = checked()["cluster-slots"]
    assert (found.severity, found.what) == (Severity.DANGER, "no node serves the slots 10923-10929")


def test_a_node_that_cannot_be_asked(nodes: list[ScriptedNode]) -> None:
    """The others are."""
    unreachable(nodes[1])
    found = checked()
    assert found["cluster-away"].examples == ["127.0.0.1:7002: refused"]
    assert found["cluster-unread"].count == 1
    assert found["version"].what.startswith("all 2 nodes: ")


def test_tls_between_the_nodes(nodes: list[ScriptedNode]) -> None:
    """It is asked for where the sidecar speaks TLS."""
    assert checked("rediss+cluster")["cluster-tls"].severity is Severity.WARNING


def test_queues_that_were_left_alone(nodes: list[ScriptedNode]) -> None:
    """They are named."""
    database = ClusterDatabase(parse_upstream("redis+cluster://127.0.0.1:7001"))
    database.left_out.add_moving("mail")
    (found,) = cluster.check_read(database)
    assert (found.code, found.severity, found.examples) == ("cluster-moving", Severity.NOTICE, ["mail"])
