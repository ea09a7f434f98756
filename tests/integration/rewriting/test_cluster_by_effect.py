"""Scripts that nobody understands, at the nodes of a cluster: wrapped by effect at each of them, replicas too."""

import re
from collections.abc import Iterator

import pytest
from redis import Redis, ResponseError

from asynq_ttl.rewriting.registry import sha_of
from support.cluster import QUEUES, Cluster, Kind, Node, metric, node_ports, serve_cluster, start_cluster
from support.foreign_worker import FAIL, MOVE, json_message
from support.servers import Sidecar, SidecarFactory, connect, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
HOUR = 3_600
_SECONDS = 60


@pytest.fixture(params=["redis", "path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with start_cluster(Kind(request.param, replicas=1)) as cluster:
        yield cluster


def client_of(sidecar: Sidecar, node: Node) -> "Redis":
    """Return a client of a node, through its port of the sidecar."""
    return connect(port=node_ports(sidecar)[node.port])


def add(client: "Redis", queue: str, task_id: str) -> tuple[str, ...]:
    """Let a foreign worker have taken a task; return the KEYS and ARGV with which `FAIL` archives it."""
    prefix, message = f"asynq:{{{queue}}}:", json_message("job:x", task_id)
    client.hset(f"{prefix}t:{task_id}", mapping={"msg": message, "state": "active"})
    client.lpush(f"{prefix}active", task_id)
    keys = f"{prefix}t:{task_id}", f"{prefix}active", f"{prefix}archived"
    return (*keys, task_id, message.decode())


def wrapper_by_effect(sidecar: Sidecar, text: bytes) -> str:
    """Return the SHA of the wrapper of a text, as the log tells it."""
    found = re.search(rf"script {sha_of(text).decode()} .* is wrapped as (\w+)", sidecar.log())
    assert found, sidecar.log()
    return found[1]


@pytest.mark.timeout(240)
def test_a_foreign_script_is_wrapped_at_its_node_and_at_the_promoted_replica(
    cluster: Cluster, start_sidecar: SidecarFactory
) -> None:
    """All nodes have its wrapper soon. After a failover its SHA alone is enough."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where", "cannot be swept"]
    master = cluster.owner("asynq:{default}:t:")
    replica = cluster.replica_of(master)
    with client_of(sidecar, master) as client:
        assert client.eval(FAIL, 3, *add(client, "default", "1")) == [1, b"1"]
        assert client.ttl("asynq:{default}:t:1") == HOUR + 60
    wrapper = wrapper_by_effect(sidecar, FAIL)
    wait_until(
        lambda: all(cluster.ask(node, "SCRIPT", "EXISTS", wrapper) == [1] for node in cluster.nodes),
        "not every node has the wrapper",
        _SECONDS,
    )
    cluster.kill(master)
    wait_until(lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", _SECONDS)
    with client_of(sidecar, replica) as client:
        assert client.evalsha(sha_of(FAIL).decode(), 3, *add(client, "default", "2")) == [1, b"2"]
        assert client.ttl("asynq:{default}:t:2") == HOUR + 60
    assert metric(sidecar, "asynq_ttl_fail_open_total") == 0
    assert metric(sidecar, "asynq_ttl_decisions_total") == 2


@pytest.mark.timeout(240)
def test_what_one_node_has_shown_is_known_at_the_others(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """A text that came to one is wrapped where clients send its SHA alone; one that none has shown is asked for."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    for number, queue in enumerate(QUEUES):
        with client_of(sidecar, cluster.owner(f"asynq:{{{queue}}}:t:")) as client:
            call = 3, *add(client, queue, "1")
            if number == 0:
                with pytest.raises(ResponseError, match="No matching script"):
                    client.evalsha(sha_of(FAIL).decode(), *call)
                client.eval(FAIL, *call)
            else:
                assert client.evalsha(sha_of(FAIL).decode(), *call) == [1, b"1"]
            assert client.ttl(f"asynq:{{{queue}}}:t:1") == HOUR + 60
            # It lives again: by one script for every move.
            prefix = f"asynq:{{{queue}}}:"
            again = f"{prefix}t:1", f"{prefix}archived", f"{prefix}pending", "1", "pending", ""
            assert client.eval(MOVE, 3, *again) == b"MOVED"
            assert client.ttl(f"{prefix}t:1") == -1
    assert metric(sidecar, "asynq_ttl_fail_open_total") == 0
