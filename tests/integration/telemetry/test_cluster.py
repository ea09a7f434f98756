"""A cluster that nobody told the sidecar of, which it warns of; and one that it serves, whose nodes spans name."""

import re
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis as redis_py

from support.asynq import Harness
from support.asynq_calls import AsynqCalls
from support.cluster import QUEUES, serve_cluster, start_cluster
from support.otlp import attributes, http_receiver
from support.servers import Server, SidecarFactory, free_port, start_redis, start_valkey, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]"


@pytest.fixture(params=[start_redis, start_valkey], ids=["redis", "valkey"])
def nodes(request: pytest.FixtureRequest) -> Iterator[tuple[Server, Server]]:
    """Two nodes, each with half of the slots."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with request.param(*options) as first, request.param(*options) as second:
        with first.client() as one, second.client() as two:
            one.execute_command("CLUSTER ADDSLOTS", *range(8192))
            two.execute_command("CLUSTER ADDSLOTS", *range(8192, 16384))
            one.execute_command("CLUSTER MEET", "127.0.0.1", second.port)
            wait_until(lambda: _whole(one) and _whole(two), "the cluster does not come up", 30)
        yield first, second


def _whole(node: "redis_py.Redis") -> bool:
    info = node.execute_command("CLUSTER INFO")
    text = info if isinstance(info, dict) else dict(line.split(":") for line in info.decode().split())
    return bool(text["cluster_state"] == "ok") and bool(text["cluster_slots_ok"] == "16384")


@pytest.mark.timeout(120)
def test_each_sign_of_a_cluster_is_told(
    nodes: tuple[Server, Server], harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """The mode when it connects, a client that asks for the nodes, and one that is sent to another node."""
    admin = f"127.0.0.1:{free_port()}"
    sidecar = start_sidecar(nodes[0].url, POLICY, admin=admin)
    sidecar.expected_warnings.append("no Redis Cluster: ")
    wait_until(lambda: "Redis is a cluster" in sidecar.log(), "the mode is not noticed")
    with sidecar.client() as client, redis_py.Redis(port=nodes[0].port, protocol=2) as direct:
        assert "asked for the cluster's nodes" not in sidecar.log()
        assert client.execute_command("CLUSTER SLOTS") == direct.execute_command("CLUSTER SLOTS")
        wait_until(lambda: "asked for the cluster's nodes" in sidecar.log(), "the question is not noticed")
        # Asynq's scripts on a queue whose slot is at this node, and on one whose slot is not.
        here, there = (
            next(name for name in map(str, range(1000)) if (_slot(direct, name) < 8192) is at_first)
            for at_first in (True, False)
        )
        assert client.execute_command("GET", f"asynq:{{{here}}}:x") is None
        call = AsynqCalls(lambda call: call, there).archive_all("scheduled", 1_700_000_000)
        assert "sent a client" not in sidecar.log()
        with pytest.raises(redis_py.ResponseError):
            client.execute_command("EVAL", call.text, *call.words)
        wait_until(lambda: "sent a client to another node" in sidecar.log(), "the redirection is not noticed")
    answers = harness.enqueue(sidecar.address, {"type": "mail", "queue": there})
    assert "MOVED" in answers[0]["error"]
    with urllib.request.urlopen(f"http://{admin}/metrics") as response:
        metrics = response.read().decode()
    for sign in ("mode", "topology", "redirect"):
        assert re.search(rf'asynq_ttl_cluster_signs_total{{[^}}]*sign="{sign}"[^}}]*}} 1', metrics), metrics


def _slot(node: "redis_py.Redis", queue: str) -> int:
    return int(node.execute_command("CLUSTER KEYSLOT", f"asynq:{{{queue}}}:pending"))


def test_one_redis_gives_no_sign(server: Server, start_sidecar: SidecarFactory) -> None:
    """Without a cluster there is no warning, even where a client asks for its state or for a slot."""
    sidecar = start_sidecar(server.url, POLICY)
    wait_until(lambda: "is up" in sidecar.log(), "it does not come up")
    with sidecar.client() as client, suppress(redis_py.ResponseError):  # "cluster support disabled", says Redis
        client.execute_command("CLUSTER KEYSLOT", "asynq:{q}:pending")
    assert "no Redis Cluster" not in sidecar.log()


@pytest.mark.timeout(120)
def test_spans_name_the_node_that_a_command_went_to(
    cluster_harness: Harness, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Of a cluster client at the nodes' ports, of a plain one, and of wrappers; bulk operations find their tasks."""
    with start_cluster() as cluster, http_receiver() as receiver:
        masters = {queue: cluster.owner(f"asynq:{{{queue}}}:t:").port for queue in QUEUES}
        assert len(set(masters.values())) == 3
        where = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        sidecar = serve_cluster(start_sidecar, cluster, POLICY, sweep_interval="0", **where)
        for queue in QUEUES:
            cluster_harness.enqueue(
                sidecar.address, {"type": "mail", "queue": queue, "id": queue, "payload": '{"do": "skip"}'}
            )
        cluster_harness.work(sidecar.address, "-queues", ",".join(f"{queue}=1" for queue in QUEUES))
        for queue in QUEUES:
            harness.inspect(sidecar.address, {"op": "run_task", "queue": queue, "id": queue})
            harness.inspect(sidecar.address, {"op": "archive_all", "queue": queue, "state": "pending"})
        sidecar.stop()
    named = {(span.name, attributes(span.attributes)["server.port"]) for span in receiver.spans}
    at_queues = {(f"{name} {queue}", port) for queue, port in masters.items() for name in ("archive", "run")}
    assert {(name, port) for name, port in named if not name.startswith("activate ")} == at_queues
    for queue in QUEUES:
        told = [[attributes(event.attributes) for event in span.events] for span in receiver.named(f"archive {queue}")]
        assert sorted(told, key=len) == [[], [{"messaging.message.id": queue}]]
