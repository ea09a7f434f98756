"""A sidecar in front of a cluster as something that is run: sockets of a supervisor, the drain, readiness, figures."""

import json
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from support.cluster import Cluster, Kind, metrics, node_ports, port_range, serve_cluster, start_cluster
from support.commands import command_line, run
from support.servers import Sidecar, SidecarFactory, connect, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
_SECONDS = 60
_ACTIVATE = """
import os, sys
count = int(sys.argv[1])
for number in range(count):
    os.dup2(int(sys.argv[2 + number]), 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.argv[2 + count], sys.argv[2 + count:])
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with start_cluster(Kind(replicas=1)) as cluster:
        yield cluster


def told(sidecar: Sidecar) -> Any:
    """Return what the sidecar says of itself."""
    with urllib.request.urlopen(f"http://{sidecar.admin}/api/status") as answer:
        return json.load(answer)


@contextmanager
def activated(cluster: Cluster, sockets: list[socket.socket], ports: str, log: Path) -> Iterator[None]:
    """Start a sidecar as systemd's socket activation does, and let it end."""
    command = command_line("serve", "--upstream", cluster.url, "--admin", "off", "--cluster-ports", ports)
    # The numbers are high, so that none of them is one of those that are left for the sidecar.
    with ExitStack() as stack, log.open("ab") as out:
        high = [stack.enter_context(_at_a_high_number(each)) for each in sockets]
        numbers = [str(each.fileno()) for each in high]
        program = [sys.executable, "-c", _ACTIVATE, str(len(numbers)), *numbers, *command]
        process = subprocess.Popen(program, pass_fds=[each.fileno() for each in high], stderr=out)
        try:
            wait_until(lambda: "listening at" in log.read_text() or process.poll() is not None, "it does not start")
            yield
        finally:
            process.terminate()
            assert process.wait(30) == 0, log.read_text()


@contextmanager
def _at_a_high_number(each: socket.socket) -> Iterator[socket.socket]:
    import fcntl  # noqa: PLC0415 - for this one call

    with socket.socket(fileno=fcntl.fcntl(each.fileno(), fcntl.F_DUPFD, 100)) as high:
        yield high


@pytest.mark.timeout(180)
def test_sockets_of_a_supervisor_stand_for_their_ports(cluster: Cluster, tmp_path: Path) -> None:
    """That of --listen and those of nodes, in any order; what it has not left is bound. A restart refuses nobody."""
    first, last = port_range(10)
    main = socket.create_server(("127.0.0.1", 0), backlog=128)
    left = [socket.create_server(("127.0.0.1", port), backlog=128) for port in (first + 1, first, first + 3)]
    with ExitStack() as stack:
        sockets = [stack.enter_context(each) for each in (*left, main)]
        for number in range(2):
            log = tmp_path / f"log-{number}"
            with activated(cluster, sockets, f"{first}-{last}", log):
                found = re.findall(r"is at port (\d+)", log.read_text())
                assert sorted(map(int, found)) == list(range(first, first + len(cluster.nodes)))
                assert f"listening at 127.0.0.1:{main.getsockname()[1]}" in log.read_text()
                for port in (*range(first, first + len(cluster.nodes)), main.getsockname()[1]):
                    with connect(port=port) as client:
                        assert client.ping()
        # While no sidecar runs, who connects waits in the queue of the supervisor's socket.
        with socket.create_connection(("127.0.0.1", first)) as waiting:
            waiting.settimeout(_SECONDS)
            waiting.sendall(b"PING\r\n")
            with activated(cluster, sockets, f"{first}-{last}", tmp_path / "log-2"):
                assert waiting.recv(100) == b"+PONG\r\n"


@pytest.mark.timeout(120)
def test_a_drain_waits_for_commands_at_the_ports_of_nodes(cluster: Cluster, start_sidecar: SidecarFactory) -> None:
    """What is under way there ends; nobody new is let in."""
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    master = cluster.owner("waiting")
    port = node_ports(sidecar)[master.port]
    got: list[Any] = []
    with connect(port=port, socket_timeout=_SECONDS) as client:
        client.ping()
        waiting = threading.Thread(target=lambda: got.append(client.blpop(["waiting"], 30)))
        waiting.start()
        wait_until(lambda: "blocked_clients:1" in _info(cluster, master), "nobody waits", _SECONDS)
        assert sidecar.process is not None
        sidecar.process.terminate()
        wait_until(lambda: "draining" in sidecar.log() and _refuses(port), "it does not drain", _SECONDS)
        assert _refuses(sidecar.port)
        cluster.ask(master, "RPUSH", "waiting", "here")
        waiting.join(_SECONDS)
    assert got == [(b"waiting", b"here")]
    assert sidecar.process.wait(30) == 0


def _info(cluster: Cluster, node: Any) -> str:
    return str(cluster.ask(node, "INFO", "clients").decode())


def _refuses(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.timeout(240)
def test_it_is_ready_as_long_as_a_master_answers_and_names_the_nodes_that_do_not(
    start_sidecar: SidecarFactory,
) -> None:
    """By its status, by its metrics, and by the log; `ready` is about whether clients should come."""
    with start_cluster(Kind()) as cluster:
        sidecar = serve_cluster(start_sidecar, cluster, POLICY)
        sidecar.expected_warnings += ["is down", "sweeping failed", "does not say where", "cannot be swept"]
        nodes = told(sidecar)["upstream"]["nodes"]
        assert {node["address"] for node in nodes} == {f"127.0.0.1:{node.port}" for node in cluster.nodes}
        assert {node["port"] for node in nodes} == set(node_ports(sidecar).values())
        assert sum(node["slots"] for node in nodes) == 16_384
        assert {node["role"] for node in nodes} == {"master"}
        assert told(sidecar)["upstream"]["portless"] == 0
        dead, *others = cluster.nodes
        cluster.kill(dead)
        wait_until(lambda: _up(sidecar, dead.port) == 0, "nobody notices that a master is dead", _SECONDS)
        assert [_up(sidecar, node.port) for node in others] == [1, 1]
        assert run("ready", "--admin", sidecar.admin).returncode == 0
        for node in others:
            cluster.kill(node)
        wait_until(lambda: run("ready", "--admin", sidecar.admin).returncode == 1, "it stays ready", _SECONDS)
        assert re.search("no master answers|no node of the cluster", told(sidecar)["problem"])


def _up(sidecar: Sidecar, port: int) -> float:
    found = re.search(
        rf'^asynq_ttl_node_up\{{node="127.0.0.1:{port}",role="\w+"\}} (\S+)$', metrics(sidecar), re.MULTILINE
    )
    assert found, metrics(sidecar)
    return float(found[1])


@pytest.mark.timeout(240)
def test_a_node_that_replaces_another_gets_its_port(start_sidecar: SidecarFactory) -> None:
    """Where there are no more ports than nodes: until the old one is forgotten it has none, and that is told."""
    with start_cluster(Kind()) as cluster:
        first, last = port_range(len(cluster.nodes))
        sidecar = serve_cluster(start_sidecar, cluster, POLICY, cluster_ports=f"{first}-{last}")
        sidecar.expected_warnings += ["more nodes than", "sweeping failed", "is down", "does not say where"]
        with cluster.with_another() as added:
            wait_until(lambda: told(sidecar)["upstream"]["portless"] == 1, "the new node is not noticed", _SECONDS)
            dead = cluster.nodes[0]
            freed = node_ports(sidecar)[dead.port]
            for each in cluster.alive():
                if each is not dead:
                    cluster.ask(each, "CLUSTER", "FORGET", dead.id)
            cluster.kill(dead)
            wait_until(lambda: told(sidecar)["upstream"]["portless"] == 0, "it gets no port", _SECONDS)
            ports = {node["address"]: node["port"] for node in told(sidecar)["upstream"]["nodes"]}
            assert ports[f"127.0.0.1:{added.port}"] == freed
            with connect(port=freed) as client, pytest.raises(redis_py.RedisError):
                client.set("a", 1)  # it serves no slot, and says so
