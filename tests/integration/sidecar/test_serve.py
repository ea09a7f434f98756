"""`asynq-ttl serve` as an operator meets it: sockets, upstreams that are down, limits, drain, reload, TLS."""

import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest
import redis as redis_py

from support.servers import Server, SidecarFactory, connect, free_port, start_redis, start_valkey, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]"


def test_unix_sockets_on_both_sides(server: Server, start_sidecar: SidecarFactory, tmp_path: Path) -> None:
    """It listens on a unix socket and connects to one; a stale socket file does not stop a restart."""
    path = tmp_path / "asynq-ttl.sock"
    sidecar = start_sidecar(f"unix://{server.socket}", listen=f"unix:{path}")
    with connect(unix_socket_path=str(path)) as client:
        assert client.set("k", "v")
        assert client.get("k") == b"v"
    sidecar.kill()
    assert path.exists()
    sidecar.start()
    with connect(unix_socket_path=str(path)) as client:
        assert client.get("k") == b"v"


def test_credentials_and_database_of_the_url_are_its_own(start_sidecar: SidecarFactory) -> None:
    """The URL's password serves the sidecar's own connection; clients authenticate for themselves."""
    with start_redis("--requirepass", "secret") as server:
        port = server.port
        sidecar = start_sidecar(f"redis://:secret@127.0.0.1:{port}/3", POLICY)
        with sidecar.client() as client, pytest.raises(redis_py.AuthenticationError):
            client.ping()
        with connect(port=sidecar.port, password="secret") as client:
            assert client.set("k", "v")
        wait_until(lambda: "is up" in sidecar.log(), "it does not log in")
        assert "secret" not in sidecar.log()
        sidecar.stop()


def test_an_upstream_that_is_down_and_comes_back(start_sidecar: SidecarFactory) -> None:
    """It starts without Redis, tells clients so with an error, and recovers by itself."""
    port = free_port()
    sidecar = start_sidecar(f"redis://127.0.0.1:{port}/0", POLICY)
    sidecar.expected_warnings.append("is down")
    with sidecar.client() as client, pytest.raises(redis_py.RedisError) as refused:
        client.ping()
    assert "asynq-ttl: upstream redis://127.0.0.1" in str(refused.value)
    assert "unavailable" in str(refused.value)
    with start_redis(port=port):
        wait_until(lambda: "is up" in sidecar.log(), "it does not recover")
        with sidecar.client() as client:
            assert client.ping()
    wait_until(lambda: sidecar.log().count("is down") == 2, "it does not notice")
    with start_valkey(port=port), sidecar.client() as client:
        wait_until(lambda: sidecar.log().count("is up") == 2, "it does not recover again")
        assert client.ping()


def test_a_refusal_answers_every_command(start_sidecar: SidecarFactory) -> None:
    """Each command of a pipeline is answered by the error, then the connection is closed."""
    sidecar = start_sidecar(f"redis://127.0.0.1:{free_port()}/0")
    sidecar.expected_warnings.append("is down")
    with socket.create_connection(("127.0.0.1", sidecar.port)) as client:
        client.sendall(b"*1\r\n$4\r\nPING\r\n" * 100)
        reply = b""
        while data := client.recv(65_536):
            reply += data
    assert reply.startswith(b"-ERR asynq-ttl: upstream")
    assert reply.count(b"\r\n") == 100


def test_more_clients_than_allowed_are_refused(server: Server, start_sidecar: SidecarFactory) -> None:
    """Past the limit a client gets Redis's own error; a place that becomes free can be taken."""
    sidecar = start_sidecar(server.url, max_connections="2")
    first, second, third = (sidecar.client() for _ in range(3))
    assert first.ping()
    assert second.ping()
    with pytest.raises(redis_py.ConnectionError, match="max number of clients"):
        third.ping()
    first.close()
    wait_until(lambda: _pings(third), "the free place cannot be taken")
    second.close()
    third.close()


def test_sigterm_waits_for_commands_under_way(server: Server, start_sidecar: SidecarFactory) -> None:
    """Drain: an idle connection is closed at once, a reply that is awaited still arrives, then it ends with 0."""
    sidecar = start_sidecar(server.url, drain_timeout="60")
    idle, blocked = sidecar.client(), sidecar.client()
    assert idle.ping()
    with socket.create_connection(("127.0.0.1", sidecar.port)) as waiting:
        waiting.sendall(b"*3\r\n$5\r\nBLPOP\r\n$5\r\nqueue\r\n$1\r\n0\r\n")
        time.sleep(0.3)
        assert sidecar.process is not None
        sidecar.process.terminate()
        wait_until(lambda: "draining" in sidecar.log(), "it does not drain")
        time.sleep(0.3)
        with server.client() as direct:
            direct.rpush("queue", "x")
        assert waiting.recv(100) == b"*2\r\n$5\r\nqueue\r\n$1\r\nx\r\n"
        assert waiting.recv(100) == b""
    assert sidecar.process.wait(30) == 0
    idle.close()
    blocked.close()


def test_sigterm_does_not_wait_for_ever(server: Server, start_sidecar: SidecarFactory) -> None:
    """A command that does not end is cut off after the drain timeout."""
    sidecar = start_sidecar(server.url, drain_timeout="0.5")
    sidecar.expected_warnings.append("the drain timeout is over")
    with socket.create_connection(("127.0.0.1", sidecar.port)) as waiting:
        waiting.sendall(b"*3\r\n$5\r\nBLPOP\r\n$5\r\nqueue\r\n$1\r\n0\r\n")
        time.sleep(0.2)
        assert sidecar.stop() == 0


def test_a_bad_policy_stops_the_start_and_not_the_running(server: Server, start_sidecar: SidecarFactory) -> None:
    """A reload with faults keeps the old policy and says where the fault is; SIGHUP reads the file too."""
    sidecar = start_sidecar(server.url, POLICY)
    sidecar.expected_warnings.append("policy not reloaded")
    sidecar.reload("version: 1\nrules: [{name: all, archived: {ttl: 7}}]")
    assert "policy.yaml:2" in sidecar.log()
    sidecar.reload(POLICY.replace("1h", "2h"))
    assert "is in force, mode enforce" in sidecar.log()
    before = sidecar.log().count("is in force")
    assert sidecar.process is not None
    sidecar.process.send_signal(1)
    wait_until(lambda: sidecar.log().count("is in force") > before, "SIGHUP does nothing")


def test_a_slow_reader_costs_bounded_memory(server: Server, start_sidecar: SidecarFactory) -> None:
    """A client that asks for 100 MB and does not read them makes neither the sidecar grow nor others wait."""
    sidecar = start_sidecar(server.url)
    with server.client() as client:
        client.set("big", b"x" * 100_000_000)
    with socket.create_connection(("127.0.0.1", sidecar.port)) as slow:
        slow.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
        time.sleep(0.5)
        assert sidecar.process is not None
        status = Path(f"/proc/{sidecar.process.pid}/status").read_text()
        resident_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
        assert resident_kib < 150_000
        with sidecar.client() as other:
            assert other.ping()
        received = 0
        while received < 100_000_000 + 12:
            received += len(slow.recv(1 << 20))
    server.reset()


def test_a_client_that_floods_is_held_back(start_sidecar: SidecarFactory) -> None:
    """While Redis does not read (it is stopped), what a client sends piles up with the client, not here."""
    with start_redis() as server:
        sidecar = start_sidecar(server.url)
        sidecar.expected_warnings.append("is down")
        with socket.create_connection(("127.0.0.1", sidecar.port)) as flood:
            flood.sendall(b"*1\r\n$4\r\nPING\r\n")
            flood.recv(100)
            server.process.send_signal(19)
            flood.settimeout(1)
            sent = 0
            with suppress(TimeoutError):
                while sent < 200_000_000:
                    sent += flood.send(b"*2\r\n$4\r\nECHO\r\n$60000\r\n" + b"x" * 60_000 + b"\r\n")
            server.process.send_signal(18)
        assert sent < 50_000_000


def test_embedded_needs_no_redis(start_sidecar: SidecarFactory) -> None:
    """`--embedded` brings a Valkey of its own."""
    sidecar = start_sidecar("redis://127.0.0.1:1/0", embedded="")
    with sidecar.client() as client:
        assert client.info("server")["redis_version"]


def _pings(client: "redis_py.Redis") -> bool:
    try:
        return bool(client.ping())
    except redis_py.ConnectionError:
        return False
