"""A cluster is one database: each queue at its master, and what cannot be read is named."""

from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from asynq_ttl.existing_keys.clients import DatabaseError
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.wire.cluster.slots import slot_of
from support.scripted_cluster import UPSTREAM, ScriptedNode, filled_cluster, keys, names, opened, unreachable, walk


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedNode]:
    """Three masters with five queues each."""
    return filled_cluster(monkeypatch)


def test_all_masters_are_walked_through(nodes: list[ScriptedNode]) -> None:
    """Each key is seen once, at the master of its slot, wherever else it lies too."""
    nodes[0].keys += keys(1)
    database = opened()
    assert walk(database) == (0, keys(0) + keys(1) + keys(2))
    assert not database.left_out
    assert walk(database) == (0, keys(0) + keys(1) + keys(2))
    assert database.size() == 20
    assert database.now() == 1_700_007_001
    assert database.server().name == "cluster of 3 masters, Redis 7.0.15"


def test_a_slot_that_is_on_its_way_from_the_start(nodes: list[ScriptedNode]) -> None:
    """Its queue is not among the queues, nor are its keys among the keys."""
    name, slot = names(2, 1)[0], slot_of(keys(2)[0])
    nodes[2].moving = f"[{slot}->-node-1]"
    database = ClusterDatabase(UPSTREAM)
    assert name not in (database.queues() or [])
    assert keys(2)[0] not in walk(database)[1]
    assert database.left_out.moving == [name]
    assert database.ask(keys(2)[0], "PTTL") is None
    assert database.types_of(keys(2)[:1]) == [b"none"]


@pytest.mark.parametrize("error", [AskError("1 a:1"), MovedError("1 a:1"), ResponseError("attempted a non local key")])
def test_a_queue_that_has_gone(error: Exception, nodes: list[ScriptedNode]) -> None:
    """It is named, and not asked again: what was read of it may be a part."""
    database = opened()
    nodes[0].replies["PTTL"] = error
    assert database.ask(keys(0)[0], "PTTL") is None
    assert database.left_out.moving == names(0, 1)
    nodes[0].replies["PTTL"] = 5
    assert database.ask(keys(0)[0], "PTTL") is None
    assert database.ask(keys(0)[1], "PTTL") == 5


def test_a_cluster_that_is_down(nodes: list[ScriptedNode]) -> None:
    """A master that says so is as good as one that cannot be reached; any other refusal is raised."""
    database = opened()
    nodes[0].replies["PTTL"] = ClusterDownError("The cluster is down")
    assert database.ask(keys(0)[0], "PTTL") is None
    assert database.left_out.unread == ["node 127.0.0.1:7001: The cluster is down"]
    nodes[1].replies["PTTL"] = ResponseError("WRONGTYPE")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        database.ask(keys(1)[0], "PTTL")


def test_the_names_of_the_queues_cannot_be_read(nodes: list[ScriptedNode]) -> None:
    """Then they are those that have keys."""
    owner = next(node for node in nodes if node.replies)
    owner.replies["SMEMBERS"] = ClusterDownError("down")
    database = ClusterDatabase(UPSTREAM)
    others = [number for number in range(3) if nodes[number] is not owner]
    assert database.queues() == sorted(name for number in others for name in names(number, 5))
    assert len(database.left_out.unread) == 1


def test_no_master_can_be_read(nodes: list[ScriptedNode]) -> None:
    """Nobody knows the time then."""
    database = opened()
    for node in nodes:
        unreachable(node)
    with pytest.raises(Exception, match="none of the masters can be read: node 127"):
        database.now()
    assert database.size() is None
    with pytest.raises(DatabaseError, match="cannot be used"):
        ClusterDatabase(UPSTREAM).queues()


def test_which_servers_are_changed(nodes: list[ScriptedNode]) -> None:
    """It is another thing after a failover."""
    assert opened().servers == "node-1:run-1 node-2:run-2 node-3:run-3"
    nodes[0].run = "run-4"
    assert opened().servers != "node-1:run-1 node-2:run-2 node-3:run-3"


def test_what_a_script_replies_where_nothing_can_be_read(
    nodes: list[ScriptedNode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where nothing is there; the others reply."""
    database = opened()
    for master in database.masters.all:
        monkeypatch.setattr(master.scripts, "replies", lambda _, calls: [[b"row"] for _ in calls])
    unreachable(nodes[0])
    database.size()
    calls: list[tuple[Any, ...]] = [(keys(0)[0], b"", 1, "head", b"a", b"b"), (keys(1)[0], b"", 1, "head", b"a")]
    assert database.run_all("shared/read_tasks", calls) == [[[], []], [b"row"]]
    assert database.run_all("existing_keys/queue_places", [(keys(0)[0], b"", "pending", "active")]) == [
        [b"none", 0] * 2
    ]
    assert database.run_all("existing_keys/change_tasks", [(keys(0)[0], b"", *["x"] * 18)]) == [[0, 0]]
    for name, nothing in (("read_index", []), ("check_list", [[], []]), ("check_index", [0, b"", b""])):
        assert database.run_all(f"existing_keys/{name}", [(keys(0)[0],)]) == [nothing]
    assert database.run_all("shared/read_tasks", []) == []
