"""A cluster is one database: each queue at its master, and what cannot be read is named."""

from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.clients import DatabaseError
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.database import Cursor
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.wire.cluster.slots import slot_of
from support.scripted_cluster import THIRDS, ScriptedNode, scripted_cluster, unreachable

UPSTREAM = parse_upstream("redis+cluster://127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003")


def place(queue: str) -> int:
    """Return which of three masters has a queue."""
    slot = slot_of(queue_prefix(queue))
    return next(number for number, (first, last) in enumerate(THIRDS) if first <= slot <= last)


def names(node: int, count: int) -> list[str]:
    """Return names of queues at a master."""
    return [name for name in (f"q{number}" for number in range(500)) if place(name) == node][:count]


def keys(node: int, count: int = 5) -> list[bytes]:
    """Return keys of as many queues at a master."""
    return [queue_prefix(name) + b"t:a" for name in names(node, count)]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedNode]:
    """Three masters with five queues each; `asynq:queues` at its own."""
    nodes = scripted_cluster(monkeypatch, keys(0), keys(1), keys(2))
    owner = next(n for n, (first, last) in enumerate(THIRDS) if first <= slot_of(b"asynq:queues") <= last)
    nodes[owner].replies["SMEMBERS"] = {name.encode() for node in range(3) for name in names(node, 5)}
    return nodes


def opened() -> ClusterDatabase:
    """Return the database, whose queues have been asked for."""
    database = ClusterDatabase(UPSTREAM)
    database.queues()
    return database


def walk(database: ClusterDatabase, cursor: Cursor = 0, steps: int = 1000) -> tuple[Cursor, list[bytes]]:
    """Walk on for some steps; return where the walk stands then, and what was seen."""
    seen: list[bytes] = []
    for _ in range(steps):
        cursor, found = database.scan(cursor, match=b"asynq:*", count=2)
        seen += found
        if not cursor:
            break
    return cursor, seen


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


@pytest.mark.parametrize("steps", range(1, 9))
def test_another_run_goes_on(steps: int, nodes: list[ScriptedNode]) -> None:
    """Where the first one stood, at any step."""
    cursor, seen = walk(opened(), steps=steps)
    other = opened()
    assert other.holds(cursor)
    assert walk(other, cursor) == (0, (keys(0) + keys(1) + keys(2))[len(seen) :])


@pytest.mark.parametrize("steps", [1, 2])
def test_another_run_after_a_failover(steps: int, nodes: list[ScriptedNode]) -> None:
    """The part of the node that is gone begins anew, at the one that has its slots; what is done stays so."""
    cursor, seen = walk(opened(), steps=steps + 3)
    assert seen[:5] == keys(0)
    nodes[1].id, nodes[1].run = "node-9", "run-9"
    other = opened()
    assert not other.holds(cursor)
    assert sorted(walk(other, cursor)[1]) == sorted(keys(1) + keys(2))
    nodes[1].run = "run-10"  # the same node, restarted
    cursor, _ = walk(other, steps=7)
    assert other.begins_part(0)


def test_a_master_that_goes_away_in_the_middle(nodes: list[ScriptedNode]) -> None:
    """It is named once, and the others are walked through."""
    database = opened()
    cursor, seen = walk(database, steps=4)
    unreachable(nodes[1])
    cursor, rest = walk(database, cursor)
    assert (cursor, seen + rest) == (0, keys(0) + keys(1)[:2] + keys(2))
    assert database.left_out.unread == ["node 127.0.0.1:7002: refused"]
    assert database.left_out.moving == []


def test_a_slot_that_goes_away_in_the_middle(nodes: list[ScriptedNode]) -> None:
    """Its queue is named, also where it was seen: some of it may have gone before."""
    database = opened()
    cursor, _ = walk(database, steps=1)
    slot = slot_of(keys(0)[0])
    nodes[0].moving = f"[{slot}->-node-2]"
    assert walk(database, cursor)[0] == 0
    assert database.left_out.moving == names(0, 1)


def test_a_server_that_restarts_in_the_middle(nodes: list[ScriptedNode]) -> None:
    """Its cursor was good for the run before: all its queues are named."""
    database = opened()
    cursor, _ = walk(database, steps=1)
    nodes[0].run = "run-7"
    walk(database, cursor)
    assert sorted(database.left_out.moving[:5]) == sorted(names(0, 5))


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
