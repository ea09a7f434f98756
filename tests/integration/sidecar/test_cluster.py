"""A cluster behind the sidecar: real Asynq with its cluster client, a port for each node."""

import re
from collections.abc import Iterator

import pytest
import redis as redis_py
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import ClusterDownError

from asynq_ttl.wire.cluster.slots import slot_of
from support.asynq import Harness
from support.cluster import QUEUES, Cluster, Kind, Node, metrics, node_ports, serve_cluster, start_cluster
from support.servers import SidecarFactory, connect, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
ALL = ",".join(f"{queue}=1" for queue in QUEUES)
SKIP = '{"do": "skip"}'


@pytest.fixture(scope="module", params=["redis", "path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each, whose password only the sidecar knows."""
    with start_cluster(Kind(request.param, replicas=1, password="sesame")) as cluster:
        yield cluster


def ttls(cluster: Cluster, queue: str) -> dict[str, int]:
    """Return the TTLs of the tasks of a queue, by their IDs."""
    with cluster.client(cluster.owner(f"asynq:{{{queue}}}:t:")) as client:
        keys = client.keys(f"asynq:{{{queue}}}:t:*")
        return {key.decode().rpartition(":")[2]: client.ttl(key) for key in keys}


@pytest.mark.timeout(240)
def test_asynq_s_cluster_client(cluster: Cluster, cluster_harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Each task that ends has its TTL, at whichever master; nothing fails open; nothing went around the sidecar."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    for queue in QUEUES:
        tasks = [{"type": "mail", "queue": queue, "id": f"a{queue}", "payload": SKIP},
                 {"type": "mail", "queue": queue, "id": f"c{queue}", "retention": "1h"}]  # fmt: skip
        assert [answer["state"] for answer in cluster_harness.enqueue(sidecar.address, *tasks)] == ["pending"] * 2
    cluster_harness.work(sidecar.address, "-queues", ALL)
    for queue in QUEUES:
        found = ttls(cluster, queue)
        assert 3500 < found[f"a{queue}"] <= 3660
        assert 7000 < found[f"c{queue}"] <= 7260
    text = metrics(sidecar)
    assert "asynq_ttl_fail_open_total{" not in text
    decided = re.findall(r'asynq_ttl_decisions_total\{asynq_queue="(\w+)",asynq_task_state="(\w+)".* 1\.0', text)
    assert sorted(decided) == sorted((queue, state) for queue in QUEUES for state in ("archived", "completed"))
    # A task that runs again loses its TTL.
    (queues,) = cluster_harness.inspect(sidecar.address, {"op": "queues"})
    assert set(QUEUES) <= set(queues)


def _has_wrappers(cluster: Cluster, node: Node, wrappers: list[str]) -> bool:
    return all(cluster.ask(node, "SCRIPT", "EXISTS", *wrappers))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server", ["path-redis", "valkey"])
def test_a_master_dies(server: str, cluster_harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Its replica had the wrappers before, and goes on; the dead one is answered CLUSTERDOWN at its port."""
    with start_cluster(Kind(server, replicas=1, password="sesame")) as cluster:
        sidecar = serve_cluster(start_sidecar, cluster, POLICY)
        sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where"]
        task = {"type": "mail", "queue": "default", "payload": SKIP}
        cluster_harness.enqueue(sidecar.address, {**task, "id": "before"})
        cluster_harness.work(sidecar.address, "-queues", ALL)
        master = cluster.owner("asynq:{default}:t:")
        replica = cluster.replica_of(master)
        wrappers = re.findall(r"is wrapped as (\w+)", sidecar.log())
        assert len(wrappers) >= 2
        wait_until(lambda: all(_has_wrappers(cluster, node, wrappers) for node in cluster.nodes), "no wrappers", 10)
        cluster.kill(master)
        with (
            connect(port=node_ports(sidecar)[master.port]) as client,
            pytest.raises(ClusterDownError, match="unavailable"),
        ):
            client.ping()
        wait_until(lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", 40)
        (answer,) = cluster_harness.enqueue(sidecar.address, {**task, "id": "after"})
        assert answer["state"] == "pending", answer
        cluster_harness.work(sidecar.address, "-queues", ALL)
        assert 3500 < ttls(cluster, "default")["after"] <= 3660


@pytest.mark.timeout(120)
def test_a_slot_that_moves(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """Its client is sent on to the port of the other node, by MOVED and meanwhile by ASK."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    slot = slot_of(b"moving")
    source = cluster.owner("moving")
    target = next(node for node in cluster.nodes if node.slots and node is not source)
    ports = node_ports(sidecar)
    with connect(port=ports[source.port], protocol=3) as client:
        cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
        told = rf"{slot} 127\.0\.0\.1:{ports[target.port]}$"
        with pytest.raises(redis_py.ResponseError, match=told):
            client.get("moving")
        for node in (target, source):
            cluster.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", target.id)
        with pytest.raises(redis_py.ResponseError, match=told):
            client.get("moving")
    cluster.move_slot(slot, target, source)


SWEPT = "version: 1\ngrace: 30s\nrules: [{name: all, archived: {ttl: 1s}, completed: {ttl: 1s}}]"


@pytest.mark.timeout(240)
def test_each_master_is_swept(cluster: Cluster, cluster_harness: Harness, start_sidecar: SidecarFactory) -> None:
    """What is due goes from index and keyspace together; an entry whose hash is on its way to another node stays."""
    sidecar = serve_cluster(start_sidecar, cluster, SWEPT, sweep_interval="0.3")
    for queue in (*QUEUES, "moving"):
        cluster_harness.enqueue(sidecar.address, {"type": "mail", "queue": queue, "id": "due", "payload": SKIP})
    names = ("-queues", f"{ALL},moving=1")
    cluster_harness.work(sidecar.address, *names)
    source = cluster.owner("asynq:{moving}:t:")
    target = next(node for node in cluster.nodes if node.slots and node is not source)
    slot, index = slot_of(b"moving"), "asynq:{moving}:archived"
    # This one has no TTL, so it stays, and keeps the index at its node.
    cluster.ask(source, "HSET", "asynq:{moving}:t:kept", "state", "archived", "msg", "x")
    cluster.ask(source, "ZADD", index, 2_000_000_000, "kept")
    cluster.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
    cluster.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)
    # A live entry without its hash, as while a slot is on its way: the hash is at the other node already.
    cluster.ask(source, "ZADD", index, 2_000_000_000, "live")
    for queue in QUEUES:
        master = cluster.owner(f"asynq:{{{queue}}}:t:")
        key = f"asynq:{{{queue}}}:t:due"
        wait_until(lambda: not cluster.ask(master, "EXISTS", key), f"{queue} is not swept", 20)  # noqa: B023 - at once
        assert cluster.ask(master, "ZSCORE", f"asynq:{{{queue}}}:archived", "due") is None
    assert cluster.ask(source, "ZSCORE", index, "live")
    # Once the slot has settled, what has no hash is a ghost.
    for node in (source, target):
        cluster.ask(node, "CLUSTER", "SETSLOT", slot, "STABLE")
    wait_until(lambda: not cluster.ask(source, "ZSCORE", index, "live"), "the ghost is not dropped", 20)
    assert cluster.ask(source, "ZRANGE", index, 0, -1) == [b"kept"]
    sidecar.stop()
    cluster.ask(source, "DEL", *cluster.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 1_000))
    sidecar.expected_warnings.append("cannot be swept")  # the slot may begin its way in the middle of a round


@pytest.mark.timeout(120)
def test_another_cluster_client(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """redis-py's, with reads from replicas, pipelines and sharded pub/sub, finds every node at the sidecar."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    start = [ClusterNode("127.0.0.1", sidecar.port)]
    with RedisCluster(startup_nodes=start, load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN) as client:
        ports = {node.port for node in client.get_nodes()}
        first, _, last = sidecar._options["cluster_ports"].partition("-")
        assert len(ports) == 6
        assert ports <= set(range(int(first), int(last) + 1))
        for number in range(20):
            assert client.set(f"key{number}", number)
        wait_until(lambda: all(client.get(f"key{number}") for number in range(20)), "replicas do not follow", 10)
        with client.pipeline() as pipeline:
            for number in range(20):
                pipeline.get(f"key{number}")
            assert pipeline.execute() == [b"%d" % number for number in range(20)]
