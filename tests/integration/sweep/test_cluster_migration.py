"""A sweep while a slot is on its way, its index at one node already and its tasks at the other still."""

import time
from collections.abc import Iterator

import pytest

from asynq_ttl.lua.loader import load
from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import QUEUES, Cluster, Kind, Node, serve_cluster, start_cluster
from support.servers import SidecarFactory, wait_until

POLICY = "version: 1\ngrace: 30s\nrules: [{name: all, archived: {ttl: 1s}, completed: {ttl: 1s}}]"
INDEX, TASK = "asynq:{moving}:archived", "asynq:{moving}:t:live"
_SLOT = slot_of(b"moving")
_SECONDS = 60


@pytest.fixture(params=["redis", "path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters."""
    with start_cluster(Kind(request.param)) as cluster:
        yield cluster


def half_moved(cluster: Cluster) -> tuple[Node, Node]:
    """Leave the queue `moving` on its way: its index is at the target, a task that is kept at the source."""
    source = cluster.owner(INDEX)
    target = next(node for node in cluster.nodes if node is not source)
    cluster.ask(source, "HSET", TASK, "state", "archived", "msg", "m")
    cluster.ask(source, "ZADD", INDEX, time.time() - 5, "live")
    cluster.ask(cluster.owner("asynq:queues"), "SADD", "asynq:queues", "moving")
    cluster.ask(target, "CLUSTER", "SETSLOT", _SLOT, "IMPORTING", source.id)
    cluster.ask(source, "CLUSTER", "SETSLOT", _SLOT, "MIGRATING", target.id)
    cluster.ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", INDEX)
    return source, target


def entries(cluster: Cluster, node: Node) -> list[bytes]:
    """Return what is in the index at a node, also where its slot is only on its way to it."""
    with cluster.client(node, single_connection_client=True) as client:
        client.execute_command("ASKING")
        found: list[bytes] = client.execute_command("ZRANGE", INDEX, 0, -1)
        return found


@pytest.mark.timeout(240)
def test_whoever_followed_ask_would_drop_a_live_entry(cluster: Cluster) -> None:
    """That is why nobody does: at the node where the slot goes, a task that has not come yet looks like one gone."""
    _, target = half_moved(cluster)
    assert entries(cluster, target) == [b"live"]
    with cluster.client(target, single_connection_client=True) as client:
        client.execute_command("ASKING")
        assert client.eval(load("sweep/sweep_ghosts"), 1, INDEX, "asynq:{moving}:t:", "live") == 1
    assert entries(cluster, target) == []


@pytest.mark.timeout(240)
def test_a_sweep_drops_nothing_of_a_queue_that_is_on_its_way(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """While other queues are swept, round by round; when it has arrived its tasks go by the policy, whole."""
    source, target = half_moved(cluster)
    sidecar = serve_cluster(start_sidecar, cluster, POLICY.replace("grace", "adopt: all\ngrace"), sweep_interval="0.2")
    sidecar.expected_warnings += ["cannot be swept", "sweeping failed"]
    for number in range(3):
        for queue in QUEUES:
            prefix = f"asynq:{{{queue}}}:"
            master = cluster.owner(f"{prefix}t:")
            cluster.ask(cluster.owner("asynq:queues"), "SADD", "asynq:queues", queue)
            cluster.ask(master, "HSET", f"{prefix}t:{number}", "state", "archived", "msg", "m")
            cluster.ask(master, "ZADD", f"{prefix}archived", time.time() - 5, number)
            wait_until(
                lambda: not cluster.ask(master, "EXISTS", f"{prefix}t:{number}", f"{prefix}archived"),  # noqa: B023 - at once
                f"{queue} is not swept",
                _SECONDS,
            )
    assert entries(cluster, target) == [b"live"]
    assert cluster.ask(source, "TTL", TASK) == -1
    cluster.move_slot(_SLOT, source, target)
    wait_until(lambda: not cluster.ask(target, "EXISTS", TASK, INDEX), "it is not swept where it has arrived", _SECONDS)
