"""A sink behind the sweepers of a cluster: one takes the due tasks of all masters, and loses none of them."""

import time
from collections.abc import Iterator

import pytest

from support.asynq import Harness
from support.cluster import KINDS, Cluster, Kind, port_range, start_cluster
from support.otlp import attributes, http_receiver
from support.servers import Sidecar, SidecarFactory, wait_until
from support.webhook import Webhook

POLICY = "version: 1\ngrace: 8s\nrules: [{name: all, archived: {ttl: 2s}, completed: {ttl: 2s}}]"
QUEUES = ("default", "low", "mail")
NAMES = ",".join(f"{queue}=1" for queue in QUEUES)
EACH = 30


@pytest.fixture(params=KINDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with start_cluster(Kind(request.param, replicas=1)) as cluster:
        yield cluster


def serve(start: SidecarFactory, cluster: Cluster, sink: str, **options: str) -> Sidecar:
    """Start a sidecar with a sink in front of a cluster."""
    first, last = port_range(8)
    ports = f"{first}-{last}"
    return start(cluster.url, POLICY, cluster_ports=ports, sweep_interval="0.5", sink=sink, **options)


def end_tasks(harness: Harness, sidecar: Sidecar, name: str) -> set[str]:
    """Let tasks of all queues be archived and completed; return their IDs."""
    ids = set()
    for queue in QUEUES:
        dead = [
            {"id": f"{name}-{queue}-d{number}", "queue": queue, "type": "x", "payload": '{"do": "skip"}'}
            for number in range(EACH)
        ]
        done = [
            {"id": f"{name}-{queue}-c{number}", "queue": queue, "type": "x", "retention": "1h"}
            for number in range(EACH)
        ]
        harness.enqueue(sidecar.address, *dead, *done)
        ids |= {str(task["id"]) for task in (*dead, *done)}
    harness.work(sidecar.address, "-queues", NAMES)
    return ids


def left(cluster: Cluster) -> int:
    """Return how many task keys there are."""
    return sum(len(cluster.ask(node, "KEYS", "asynq:*:t:*")) for node in cluster.alive())


@pytest.mark.timeout(240)
def test_all_that_ends_arrives(cluster: Cluster, cluster_harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Each once, from whichever master; nothing goes while the sink fails; spans name the master."""
    assert len({cluster.owner(f"asynq:{{{queue}}}:").id for queue in QUEUES}) == 3
    with Webhook() as sink, http_receiver() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_METRICS_EXPORTER": "none"}
        sidecar = serve(start_sidecar, cluster, sink.address, **variables, OTEL_BSP_SCHEDULE_DELAY="200")
        sidecar.expected_warnings += ["the sink .* failed", "exporter"]  # the receiver ends before the sidecar
        sink.status = 500
        ids = end_tasks(cluster_harness, sidecar, "a")
        wait_until(lambda: "the sink" in sidecar.log(), "the sink is not asked", 60)
        time.sleep(5)
        assert (left(cluster), sink.taken) == (2 * len(ids), [])  # replicas have them too
        sink.status = 200
        wait_until(lambda: sink.ids == ids, "not all arrive", 90)
        wait_until(lambda: not left(cluster), "not all are removed", 60)
        assert len(sink.taken) == len(ids)
        for queue in QUEUES:
            wait_until(lambda: receiver.named(f"sweep {queue}"), "there is no span", 60)  # noqa: B023 - at once
            master = cluster.owner(f"asynq:{{{queue}}}:")
            told = [attributes(span.attributes) for span in receiver.named(f"sweep {queue}")]
            assert {span["server.port"] for span in told} == {master.port}


@pytest.mark.timeout(240)
def test_a_failover(cluster_harness: Harness, start_sidecar: SidecarFactory) -> None:
    """The sweeper of the master that dies ends; the sink goes on for all others, and for its replica."""
    with start_cluster(Kind("valkey", replicas=1)) as cluster, Webhook() as sink:
        sidecar = serve(start_sidecar, cluster, sink.address)
        sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where", "cannot be swept"]
        first = end_tasks(cluster_harness, sidecar, "a")
        wait_until(lambda: sink.ids == first, "not all arrive", 90)
        master = cluster.owner("asynq:{mail}:")
        cluster.kill(master)
        replica = cluster.replica_of(master)
        wait_until(lambda: cluster.ask(replica, "ROLE")[0] == b"master" and cluster.is_whole(), "no failover", 60)
        second = end_tasks(cluster_harness, sidecar, "b")
        wait_until(lambda: sink.ids == first | second, "not all arrive", 90)
        wait_until(lambda: not left(cluster), "not all are removed", 60)
