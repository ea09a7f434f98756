"""Adoption in a cluster: what ended without a TTL at any of its masters, also while slots and masters change."""

import time
from collections.abc import Iterator

import pytest

from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import QUEUES, Cluster, Kind, Node, metric, serve_cluster, start_cluster
from support.servers import SidecarFactory, wait_until
from support.task_message import encode_task

POLICY = "version: 1\ngrace: 30s\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
SHADOW = POLICY.replace("grace", "mode: shadow\ngrace")
HOUR = 3_600
UNTIMED = -1
_SECONDS = 60
# What a node says while its slots change hands is no news.
_MOVING = ("sweeping failed", "cannot be swept", "is down", "does not say where")


@pytest.fixture(scope="module", params=["redis", "path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters."""
    with start_cluster(Kind(request.param)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _empty(cluster: Cluster) -> Iterator[None]:
    yield
    for node in cluster.alive():
        if cluster.ask(node, "ROLE")[0] == b"master":
            cluster.ask(node, "FLUSHALL")


def put(cluster: Cluster, queue: str, name: str = "dead", state: str = "archived") -> None:
    """Put an ended task where its queue is, with plain commands and past the sidecar."""
    master, now, prefix = cluster.owner(f"asynq:{{{queue}}}:t:"), time.time(), f"asynq:{{{queue}}}:"
    message = encode_task("x", retention_seconds=HOUR, completed_at=int(now) if state == "completed" else 0)
    cluster.ask(master, "HSET", f"{prefix}t:{name}", "msg", message, "state", state)
    cluster.ask(master, "ZADD", f"{prefix}{state}", now + (HOUR if state == "completed" else 0), name)
    cluster.ask(cluster.owner("asynq:queues"), "SADD", "asynq:queues", queue)


def ttl(cluster: Cluster, queue: str, name: str = "dead", at: Node | None = None) -> int:
    """Return a task's TTL in seconds."""
    key = f"asynq:{{{queue}}}:t:{name}"
    return int(cluster.ask(at or cluster.owner(key), "TTL", key))


@pytest.mark.timeout(240)
def test_at_each_master_what_has_ended_is_adopted(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """By plain commands, past the sidecar; archived and completed."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY, sweep_interval="0.2")
    for queue in QUEUES:
        put(cluster, queue)
        put(cluster, queue, "done", "completed")
    for queue in QUEUES:
        wait_until(lambda: ttl(cluster, queue) > 0, f"{queue}: no TTL for what is archived", _SECONDS)  # noqa: B023 - at once
        wait_until(lambda: ttl(cluster, queue, "done") > 0, f"{queue}: none for what is completed", _SECONDS)  # noqa: B023 - at once
        assert HOUR < ttl(cluster, queue) <= HOUR + 30
        assert 2 * HOUR < ttl(cluster, queue, "done") <= 2 * HOUR + 30
    assert metric(sidecar, "asynq_ttl_adopted_total") == 2 * len(QUEUES)


@pytest.mark.timeout(240)
def test_in_shadow_mode_each_master_is_looked_at(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """What would be adopted is told, once; nothing is changed."""
    for queue in QUEUES:
        put(cluster, queue)
    sidecar = serve_cluster(start_sidecar, cluster, SHADOW.replace("grace", "adopt: all\ngrace"), sweep_interval="0.2")
    told = len(QUEUES)
    wait_until(lambda: metric(sidecar, "asynq_ttl_adopted_total") >= told, "not all is told of", _SECONDS)
    assert metric(sidecar, "asynq_ttl_adopted_total") == told
    assert [ttl(cluster, queue) for queue in QUEUES] == [UNTIMED] * len(QUEUES)
    assert not any(cluster.ask(node, "KEYS", "asynq-ttl:*") for node in cluster.nodes)


@pytest.mark.timeout(240)
def test_what_moves_is_adopted_where_it_arrives(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """A queue whose slot is on its way is left alone until it is there."""
    source = cluster.owner("asynq:{moving}:t:")
    target = next(node for node in cluster.nodes if node is not source)
    slot = slot_of(b"moving")
    put(cluster, "moving")
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    policy = POLICY.replace("grace", "adopt: all\ngrace")
    sidecar = serve_cluster(start_sidecar, cluster, policy, sweep_interval="0.2")
    sidecar.expected_warnings += _MOVING
    put(cluster, "default")
    wait_until(lambda: ttl(cluster, "default") > 0, "a queue that rests is not swept", _SECONDS)
    assert ttl(cluster, "moving", at=source) == UNTIMED
    cluster.move_slot(slot, source, target)
    wait_until(lambda: ttl(cluster, "moving", at=target) > 0, "what has moved gets no TTL", _SECONDS)
    assert cluster.ask(target, "ZSCORE", "asynq:{moving}:archived", "dead")
    cluster.move_slot(slot, target, source)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server", ["path-redis", "valkey"])
def test_the_promoted_replica_s_queues_are_adopted(server: str, start_sidecar: SidecarFactory) -> None:
    """What ended without a TTL is adopted by whoever sweeps the new master, also what ended at the old one."""
    with start_cluster(Kind(server, replicas=1)) as cluster:
        sidecar = serve_cluster(start_sidecar, cluster, SHADOW, sweep_interval="0.2")
        sidecar.expected_warnings += _MOVING
        master = cluster.owner("asynq:{default}:t:")
        replica = cluster.replica_of(master)
        put(cluster, "default", "before")
        wait_until(lambda: cluster.ask(master, "WAIT", 1, 100), "the replica does not follow", _SECONDS)
        cluster.kill(master)
        wait_until(lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", _SECONDS)
        sidecar.reload(POLICY)
        put(cluster, "default", "after")
        for name in ("before", "after"):
            wait_until(lambda: HOUR < ttl(cluster, "default", name, replica) <= HOUR + 30, f"{name}: no TTL", _SECONDS)  # noqa: B023 - at once
