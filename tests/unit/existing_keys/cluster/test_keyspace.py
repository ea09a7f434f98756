"""All keys of a cluster are walked through, master by master; what was not settled all the time is named."""

import pytest

from asynq_ttl.existing_keys.cluster.keyspace import begins_part, named
from asynq_ttl.wire.cluster.slots import slot_of
from support.scripted_cluster import ScriptedNode, filled_cluster, keys, names, opened, unreachable, walk


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedNode]:
    """Three masters with five queues each."""
    return filled_cluster(monkeypatch)


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


def test_a_slot_without_a_known_queue_goes_away(nodes: list[ScriptedNode]) -> None:
    """It is named by its number: somebody may have used it all the same."""
    database = opened()
    cursor, _ = walk(database, steps=1)
    slot = next(slot for slot in range(100) if slot not in map(slot_of, keys(0)))
    nodes[0].moving = f"[{slot}->-node-2]"
    walk(database, cursor)
    assert database.left_out.moving == [f"slots {slot}"]


def test_a_walk_that_has_ended_before_begins_again(nodes: list[ScriptedNode]) -> None:
    """Also one that was left in the middle."""
    database = opened()
    walk(database, steps=4)
    assert walk(database) == (0, keys(0) + keys(1) + keys(2))


def test_where_a_part_begins() -> None:
    """Nothing of it has been counted there."""
    assert begins_part(0)
    assert begins_part("0 node run 0-5 -")
    assert not begins_part("7 node run 0-5 -")


def test_how_a_key_is_named() -> None:
    """By its queue."""
    assert named(b"asynq:{mail}:t:a") == "mail"
    assert named(b"asynq:queues") == "asynq:queues"
