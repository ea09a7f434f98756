"""Faults of Redis and of the network, one by one: what clients see, and that nothing is lost."""

import signal
import socket
from pathlib import Path

from support.asynq import Harness
from support.servers import Server, SidecarFactory, start_redis, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
SKIP = {"type": "mail", "payload": '{"do": "skip"}', "id": "a"}


def archived(server: Server) -> int:
    """Return the TTL of the task, once it is archived and whole."""
    with server.client() as client:
        assert client.zscore("asynq:{default}:archived", "a") is not None
        assert client.hget("asynq:{default}:t:a", "state") == b"archived"
        return int(client.ttl("asynq:{default}:t:a"))


def test_a_redis_that_is_full(harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Clients get Redis's OOM error, as without the sidecar; when there is room again the task ends with its TTL."""
    with start_redis() as server, server.client() as direct:
        sidecar = start_sidecar(server.url, POLICY)
        sidecar.expected_warnings += ("sweeping failed", "cannot load a wrapper", "failed open")
        harness.enqueue(sidecar.address, SKIP)
        direct.config_set("maxmemory", "1")
        answer = harness.enqueue(sidecar.address, {"type": "mail", "id": "b"})[0]
        assert "OOM" in answer["error"]
        direct.config_set("maxmemory", "0")
        harness.work(sidecar.address)
        assert 3000 < archived(server) <= 3660
        sidecar.stop()


def test_a_redis_that_is_read_only(harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Clients get READONLY, as without the sidecar; when it is a master again the task ends with its TTL."""
    with start_redis() as other, start_redis() as server, server.client() as direct:
        sidecar = start_sidecar(server.url, POLICY)
        sidecar.expected_warnings += ("sweeping failed", "cannot load a wrapper", "failed open")
        direct.execute_command("REPLICAOF", "127.0.0.1", other.port)
        answer = harness.enqueue(sidecar.address, SKIP)[0]
        assert "READONLY" in answer["error"]
        direct.execute_command("REPLICAOF", "NO", "ONE")
        harness.enqueue(sidecar.address, SKIP)
        harness.work(sidecar.address)
        assert 3000 < archived(server) <= 3660
        sidecar.stop()


def test_a_redis_that_is_slow(harness: Harness, start_sidecar: SidecarFactory) -> None:
    """While Redis stands still clients wait, as without the sidecar, and then go on; the sidecar recovers."""
    with start_redis() as server:
        sidecar = start_sidecar(server.url, POLICY)
        sidecar.expected_warnings += ("is down", "sweeping failed", "cannot load a wrapper", "failed open")
        with sidecar.client() as client:
            assert client.ping()
            wait_until(lambda: "is up" in sidecar.log(), "its own connection does not come up")
            server.process.send_signal(signal.SIGSTOP)
            wait_until(lambda: "is down" in sidecar.log(), "it does not notice")
            server.process.send_signal(signal.SIGCONT)
            assert client.ping()
        wait_until(lambda: sidecar.log().count("is up") == 2, "it does not recover")
        harness.enqueue(sidecar.address, SKIP)
        harness.work(sidecar.address)
        assert 3000 < archived(server) <= 3660


def test_a_client_that_has_vanished_costs_little(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """Clients that are stopped in the middle of a command, and never say more, keep nobody from being served."""
    sidecar = start_sidecar(redis_server.url, POLICY)
    silent = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(200)]
    for connection in silent:
        connection.sendall(b"*3\r\n$4\r\nEVAL\r\n$1000000\r\nreturn")
    with sidecar.client() as client:
        assert client.set("k", "v")
    assert sidecar.process is not None
    status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
    resident_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert resident_kib < 200_000
    for connection in silent:
        connection.close()
    wait_until(lambda: _clients(redis_server) < 20, "their connections to Redis stay open")


def _clients(server: Server) -> int:
    with server.client() as client:
        return int(client.info("clients")["connected_clients"])
