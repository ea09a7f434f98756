"""The masters of a cluster are found by whoever sees most of them, and each is asked until it has failed once."""

import socket

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.existing_keys.clients import DatabaseError
from asynq_ttl.existing_keys.cluster import masters as module
from asynq_ttl.existing_keys.cluster.masters import Masters
from asynq_ttl.net.address import parse_upstream
from support.scripted_cluster import scripted_cluster, unreachable

UPSTREAM = parse_upstream("redis+cluster://127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003")


def found(failed: list[str]) -> Masters:
    """Return the masters that are found."""
    masters = Masters(UPSTREAM, failed.append)
    masters.find()
    return masters


def test_each_slot_has_its_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """And all their connections are closed at the end."""
    nodes, failed = scripted_cluster(monkeypatch), list[str]()
    masters = found(failed)
    owners = [masters.owner(slot) for slot in (0, 5461, 16383)]
    assert [owner.id for owner in owners if owner is not None] == ["node-1", "node-2", "node-3"]
    assert [str(master) for master in masters.all] == [f"node 127.0.0.1:{port}" for port in (7001, 7002, 7003)]
    assert [master.run for master in masters.readable()] == ["run-1", "run-2", "run-3"]
    assert len(masters.placed()) == 3
    assert not failed
    before = [node.closed for node in nodes]
    masters.close()
    assert [node.closed for node in nodes] == [count + 1 for count in before]


def test_one_that_is_cut_off_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the older of two views."""
    nodes = scripted_cluster(monkeypatch)
    nodes[0].dead = {"node-2", "node-3"}
    nodes[0].epoch = 99
    assert found([]).view.masters()
    for node in nodes[1:]:
        unreachable(node)
    with pytest.raises(DatabaseError, match=r"127\.0\.0\.1:7001 does not see most of the masters.*7002: refused"):
        found([])


def test_a_master_that_cannot_be_read_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on; what it refuses is another thing."""
    nodes, failed = scripted_cluster(monkeypatch), list[str]()
    unreachable(nodes[1])
    masters = found(failed)
    assert failed == ["node 127.0.0.1:7002: refused"]
    assert [master.id for master in masters.readable()] == ["node-1", "node-3"]
    assert masters.with_id("node-2") is None
    away = masters.owner(6000)
    assert away is not None
    assert masters.at(away, lambda: pytest.fail("it was asked again")) is None
    assert len(failed) == 1

    def refuse() -> None:
        raise ResponseError("no")

    with pytest.raises(ResponseError):
        masters.at(masters.all[0], refuse)


def test_a_slot_on_its_way_is_not_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its old node it is as good as gone; one that arrives is not settled before the cluster says so."""
    nodes = scripted_cluster(monkeypatch)
    nodes[0].moving = "[5->-node-2]"
    nodes[1].moving = "[5-<-node-1]"
    masters = found([])
    assert 5 not in masters.all[0].settled | masters.all[1].settled
    assert len(masters.all[0].settled) == 5460
    nodes[0].moving = ""
    masters.all[0].look()
    assert 5 in masters.all[0].settled


def test_slots_that_nobody_serves_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their queues are not there to be asked for."""
    nodes, failed = scripted_cluster(monkeypatch), list[str]()
    nodes[2].slots = (11_000, 16_383)
    masters = found(failed)
    assert masters.owner(10_950) is None
    assert failed == ["slots 10923-10999: no node serves them"]


def test_a_user_who_may_not_ask_for_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Goes on without."""
    nodes = scripted_cluster(monkeypatch)

    def info(_: str) -> dict[str, object]:
        raise ResponseError("NOPERM")

    monkeypatch.setattr(nodes[0], "info", info)
    assert [master.run for master in found([]).all] == ["", "run-2", "run-3"]


@pytest.mark.timeout(25)
def test_a_node_that_hangs_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other node can say which nodes there are."""
    monkeypatch.setattr(module, "_VIEW_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        upstream = parse_upstream(f"redis+cluster://127.0.0.1:{hanging.getsockname()[1]}")
        with pytest.raises(DatabaseError, match="Timeout"):
            Masters(upstream, lambda _: None).find()
