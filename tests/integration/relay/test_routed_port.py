"""A cluster behind one port: to its client it is one Redis."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any

import hiredis
import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.cluster import ClusterNode, RedisCluster

from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.commands import encode
from support.asynq import Harness
from support.cluster import QUEUES, Cluster, Kind, start_cluster
from support.load import under_load
from support.servers import Server, Sidecar, SidecarFactory, connect, free_port, start_path_redis, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
ALL = ",".join(f"{queue}=1" for queue in QUEUES)
SKIP = '{"do": "skip"}'


@pytest.fixture(scope="module", params=["redis", "path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters whose password only the sidecar knows."""
    with start_cluster(Kind(request.param, password="sesame")) as cluster:
        yield cluster


def serve(start: SidecarFactory, cluster: Cluster, **options: str) -> Sidecar:
    """Start a sidecar in front of a cluster, which has no ports for nodes."""
    if cluster.kind.password:
        options["client_auth"] = "none"
    return start(cluster.url, POLICY, **options)


def ttls(cluster: Cluster, queue: str) -> dict[str, int]:
    """Return the TTLs of the tasks of a queue, by their IDs."""
    with cluster.client(cluster.owner(f"asynq:{{{queue}}}:t:")) as client:
        keys = client.keys(f"asynq:{{{queue}}}:t:*")
        return {key.decode().rpartition(":")[2]: client.ttl(key) for key in keys}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", ["plain", "cluster"])
def test_asynq(
    kind: str, cluster: Cluster, harness: Harness, cluster_harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """With its plain client and with its cluster client: each task that ends has its TTL, at whichever master."""
    client = harness if kind == "plain" else cluster_harness
    sidecar = serve(start_sidecar, cluster, admin=f"127.0.0.1:{free_port()}")
    for queue in QUEUES:
        tasks = [{"type": "mail", "queue": queue, "id": f"a{kind}", "payload": SKIP},
                 {"type": "mail", "queue": queue, "id": f"c{kind}", "retention": "1h"}]  # fmt: skip
        assert [answer["state"] for answer in client.enqueue(sidecar.address, *tasks)] == ["pending"] * 2
    client.work(sidecar.address, "-queues", ALL)
    for queue in QUEUES:
        found = ttls(cluster, queue)
        assert 3500 < found[f"a{kind}"] <= 3660
        assert 7000 < found[f"c{kind}"] <= 7260
    (queues,) = client.inspect(sidecar.address, {"op": "queues"})
    assert set(QUEUES) <= set(queues)
    with urllib.request.urlopen(f"http://{sidecar.admin}/metrics") as response:
        assert "asynq_ttl_fail_open_total{" not in response.read().decode()


def test_commands_of_all_masters(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """Keys, scripts, scans: none is missing, and none comes twice."""
    sidecar = serve(start_sidecar, cluster)
    with connect(port=sidecar.port, protocol=3) as client:
        client.flushall()
        names = {b"key%d" % number for number in range(100)}
        for name in names:
            client.set(name, 1)
        assert client.dbsize() == 100
        assert set(client.keys("*")) == names
        scanned = list(client.scan_iter(count=7))
        assert set(scanned) == names
        sha = client.script_load("return KEYS[1]")
        assert client.script_exists(sha, "0" * 40) == [True, False]
        assert all(client.evalsha(sha, 1, name) == name for name in names)
        client.script_flush()
        assert client.script_exists(sha) == [False]
        client.flushall()
        assert client.dbsize() == 0


def test_transactions_and_pubsub(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """At the node of their keys; channels reach every subscriber, at whichever node."""
    sidecar = serve(start_sidecar, cluster)
    with connect(port=sidecar.port, protocol=3) as client:
        for number in range(20):
            key = f"{{t{number}}}"
            with client.pipeline() as pipeline:
                pipeline.watch(key)
                pipeline.multi()
                pipeline.set(key, number).incr(key).get(f"{key}2")
                assert pipeline.execute() == [True, number + 1, None]
        with client.pipeline() as pipeline:
            pipeline.set("a", 1).set("b", 1)
            with pytest.raises(redis_py.ResponseError, match="keys of the transaction"):
                pipeline.execute()
        with pytest.raises(redis_py.ResponseError, match=r"CROSSSLOT|same slot"):
            client.mget("a", "b")
        listeners = [client.pubsub() for _ in range(4)]
        for listener in listeners:
            listener.subscribe("news")
            assert listener.get_message(timeout=10)
        client.publish("news", "x")
        for listener in listeners:
            message = listener.get_message(timeout=10)
            assert message
            assert message["data"] == b"x"
            listener.close()
        with pytest.raises(redis_py.ResponseError, match=r"SELECT is not allowed|DB index"):
            client.execute_command("SELECT", 1)
        assert client.execute_command("SELECT", 0)
        assert client.blpop(["nothing"], timeout=0.1) is None


def test_a_cluster_client_sees_the_sidecar_alone(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """Every node is called by the one port."""
    sidecar = serve(start_sidecar, cluster)
    with RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", sidecar.port)]) as client:
        assert {node.port for node in client.get_nodes()} == {sidecar.port}
        for number in range(20):
            client.set(f"key{number}", number)
            assert client.get(f"key{number}") == b"%d" % number


# --- as one Redis -----------------------------------------------------------------------------------------------

KEYS = [b"a", b"b", b"c", b"{a}2", b"n"]
key = st.sampled_from(KEYS)
value = st.sampled_from([b"1", b"x", b"", b"y" * 3000])
command = st.one_of(
    st.tuples(st.just(b"SET"), key, value),
    st.tuples(st.sampled_from([b"GET", b"INCR", b"DEL", b"TYPE", b"HGETALL", b"STRLEN"]), key),
    st.tuples(st.just(b"RPUSH"), st.sampled_from([b"la", b"lb"]), value),
    st.tuples(st.just(b"LRANGE"), st.sampled_from([b"la", b"lb", b"a"]), st.just(b"0"), st.just(b"-1")),
    st.sampled_from([(b"PING",), (b"PING", b"x"), (b"ECHO", b"y"), (b"NOSUCH",), (b"GET",), (b"DBSIZE",), (b"EXEC",)]),
    st.tuples(st.just(b"EVAL"), st.just(b"return {KEYS[1], redis.call('get', KEYS[1])}"), st.just(b"1"), key),
    st.just((b"EVAL", b"return {1, {2, 'x'}}", b"0")),
    st.just((b"SCRIPT", b"LOAD", b"return 1")),
)


class Raw:
    """A connection that sends bytes and counts replies."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)

    def ask(self, pieces: list[bytes], replies: int) -> bytes:
        """Send pieces; return the bytes of so many replies."""
        reader, got = hiredis.Reader(notEnoughData=...), b""
        for piece in pieces:
            self.socket.sendall(piece)
        while replies:
            data = self.socket.recv(65_536)
            assert data, "hung up"
            got += data
            reader.feed(data)
            while replies and reader.gets() is not ...:
                replies -= 1
        return got

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


@pytest.fixture(scope="module")
def one_redis() -> Iterator[Server]:
    """A Redis 7.0 without a cluster."""
    with start_path_redis() as server:
        yield server


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cluster", ["path-redis"], indirect=True)
def test_it_replies_as_one_redis_does(cluster: Cluster, one_redis: Server, start_sidecar: SidecarFactory) -> None:
    """Byte for byte, whatever is sent in one go, and wherever it is cut."""
    sidecar = serve(start_sidecar, cluster)
    with closing(Raw(sidecar.port)) as routed, closing(Raw(one_redis.port)) as alone:

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.lists(command, min_size=1, max_size=30), st.lists(st.integers(0, 2000), max_size=4))
        def same(commands: list[tuple[bytes, ...]], places: list[int]) -> None:
            data = b"".join(map(encode, commands))
            ends = sorted({0, len(data), *(place % len(data) for place in places)})
            pieces = [data[first:last] for first, last in pairwise(ends)]
            flush = encode([b"FLUSHALL"])
            for one in (routed, alone):
                assert one.ask([flush], 1) == b"+OK\r\n"
            assert routed.ask(pieces, len(commands)) == alone.ask(pieces, len(commands))

        same()


# --- while the cluster changes ----------------------------------------------------------------------------------


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["path-redis", "valkey"])
def test_slots_move_under_load(server: str, start_sidecar: SidecarFactory) -> None:
    """No command fails, none is lost, and none is executed twice."""
    with start_cluster(Kind(server)) as cluster:
        sidecar = serve(start_sidecar, cluster)
        sidecar.expected_warnings += ["is down", "sweeping failed", "cannot be swept"]  # the cluster ends before it
        clients = [connect(port=sidecar.port, socket_timeout=60) for _ in range(3)]
        counts: list[dict[str, int]] = [{} for _ in clients]
        script = clients[0].register_script("redis.call('incr', KEYS[2]) return redis.call('incr', KEYS[1])")

        def work(number: int) -> None:
            for place in range(40):
                name = f"k{place}:{number}"
                with clients[number].pipeline(transaction=place % 4 == 0) as pipeline:
                    pipeline.incr(f"{{{name}}}")
                    pipeline.incr(f"{{{name}}}")
                    pipeline.execute()
                script(keys=[f"{{{name}}}", f"{{{name}}}2"], client=clients[number])
                counts[number][name] = counts[number].get(name, 0) + 3

        slots = sorted({slot_of(b"k%d:%d" % (place, number)) for place in range(40) for number in range(3)})
        with under_load(work) as wrong:
            wait_until(lambda: all(counts), "no load", 60)
            for slot in slots:
                source = next(node for node in cluster.nodes if node.slots and node.slots[0] <= slot <= node.slots[1])
                cluster.move_slot(slot, source, cluster.nodes[(cluster.nodes.index(source) + 1) % 3])
        # A transaction may be refused while its slot is on its way; nothing of it was executed then.
        assert [fault for fault in wrong if "TryAgain" not in fault and "ExecAbort" not in fault] == []
        for client, count in zip(clients, counts, strict=True):
            for name, expected in count.items():
                assert int(client.execute_command("GET", f"{{{name}}}")) == expected
            client.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["path-redis", "valkey"])
def test_a_master_dies_under_load(server: str, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Asynq's plain client waits for the new one, and sees no error; what ends afterwards has its TTL."""
    with start_cluster(Kind(server, replicas=1, password="sesame")) as cluster:
        sidecar = serve(start_sidecar, cluster)
        sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where"]
        master = cluster.owner("asynq:{default}:t:")
        tasks = [{"type": "mail", "queue": QUEUES[number % 3], "id": f"t{number}", "payload": SKIP}
                 for number in range(6_000)]  # fmt: skip
        answers: list[Any] = []
        feeding = threading.Thread(target=lambda: answers.extend(harness.enqueue(sidecar.address, *tasks)))
        feeding.start()
        with cluster.client(master) as client:
            wait_until(lambda: client.llen("asynq:{default}:pending") > 100, "no load", 60)
        cluster.kill(master)
        feeding.join()
        # A command whose reply was lost is sent again by Asynq's client: it finds its own task.
        wrong = [answer for answer in answers if "error" in answer and answer["kind"] != "conflict"]
        assert wrong == []
        assert len(answers) == 6_000
        wait_until(cluster.is_whole, "no failover", 60)
        harness.enqueue(sidecar.address, {"type": "mail", "queue": "default", "id": "after", "payload": SKIP})
        harness.work(sidecar.address, "-queues", "default=1", "-concurrency", "20")
        assert 3400 < ttls(cluster, "default")["after"] <= 3660
