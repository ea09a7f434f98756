"""redis-py's cluster clients, sync and asyncio, through the ports of nodes: replicas, pipelines, sharded pub/sub."""

from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio.cluster import ClusterNode as AsyncNode
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster

from support.cluster import Cluster, Kind, node_ports, serve_cluster, start_cluster
from support.servers import Sidecar, SidecarFactory, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
KEYS = tuple(f"key{number}" for number in range(30))
_SECONDS = 60


@pytest.fixture(scope="module", params=["path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each, whose password only the sidecar knows; they have sharded pub/sub."""
    with start_cluster(Kind(request.param, replicas=1, password="sesame")) as cluster:
        yield cluster


def only_the_sidecar_s(ports: set[int], sidecar: Sidecar) -> None:
    """Check that a client knows of each node, by ports of the sidecar alone."""
    assert ports == set(node_ports(sidecar).values())


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_conversation(cluster: Cluster, start_sidecar: SidecarFactory, protocol: int) -> None:
    """Writes go to masters and reads to replicas, in a pipeline too; a message comes to who listens at its shard."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    start = [ClusterNode("127.0.0.1", sidecar.port)]
    strategy = LoadBalancingStrategy.ROUND_ROBIN_REPLICAS
    before = cluster.commands("get", replicas=True)
    with RedisCluster(startup_nodes=start, load_balancing_strategy=strategy, protocol=protocol) as client:
        only_the_sidecar_s({int(node.port) for node in client.get_nodes()}, sidecar)
        for key in KEYS:
            assert client.set(key, f"{key} {protocol}")
        wait_until(
            lambda: all(client.get(key) == f"{key} {protocol}".encode() for key in KEYS),
            "replicas do not follow",
            _SECONDS,
        )
        assert cluster.commands("get", replicas=True) >= before + len(KEYS)
        with client.pipeline() as pipeline:
            for key in KEYS:
                pipeline.strlen(key)
            assert set(pipeline.execute()) <= {6, 7}
        for key in KEYS[:3]:
            with client.pubsub() as channel:
                channel.ssubscribe(key)
                wait_until(lambda: _next(channel, "ssubscribe"), "it is not subscribed", _SECONDS)
                client.execute_command("SPUBLISH", key, b"hello")
                wait_until(lambda: _next(channel, "smessage"), "no message comes", _SECONDS)
        assert client.mget_nonatomic(*KEYS[:3]) == [f"{key} {protocol}".encode() for key in KEYS[:3]]


def _next(channel: Any, kind: str) -> bool:
    told = channel.get_sharded_message(timeout=1)
    return told is not None and told["type"] == kind


@pytest.mark.timeout(120)
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_conversation_of_asyncio(cluster: Cluster, start_sidecar: SidecarFactory, protocol: int) -> None:
    """The same."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    start = [AsyncNode("127.0.0.1", sidecar.port)]
    strategy = LoadBalancingStrategy.ROUND_ROBIN_REPLICAS
    before = cluster.commands("get", replicas=True)
    async with AsyncCluster(startup_nodes=start, load_balancing_strategy=strategy, protocol=protocol) as client:
        only_the_sidecar_s({int(node.port) for node in client.get_nodes()}, sidecar)
        for key in KEYS:
            assert await client.set(key, f"async {key}")
        for key in KEYS:
            while await client.get(key) != f"async {key}".encode():
                pass  # the replica has yet to follow; the test's timeout is the limit
        assert cluster.commands("get", replicas=True) >= before + len(KEYS)
        pipeline = client.pipeline()
        for key in KEYS:
            pipeline.strlen(key)
        assert set(await pipeline.execute()) <= {10, 11}
        for key in KEYS[:3]:
            async with client.pubsub() as channel:
                await channel.ssubscribe(key)
                while not await _next_of(channel, "ssubscribe"):
                    pass
                await client.execute_command("SPUBLISH", key, b"hello")
                while not await _next_of(channel, "smessage"):
                    pass


async def _next_of(channel: Any, kind: str) -> bool:
    told = await channel.get_sharded_message(timeout=1)
    return told is not None and told["type"] == kind
