"""However and whenever a sidecar is told to end, it does so at once, with its status, and leaves nothing running."""

import os
import random
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

import pytest

from support.commands import run
from support.servers import Server, free_port, start_redis, wait_until
from support.serving import Serving, serving

BLPOP = b"*3\r\n$5\r\nBLPOP\r\n$5\r\nnever\r\n$1\r\n0\r\n"
NUMBERS = [signal.SIGTERM, signal.SIGINT]
STEPS = 8


def options(server: Server, *more: object) -> list[object]:
    """Return options of a sidecar in front of a server."""
    return ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--upstream", server.url, *more]


def port_of(process: Serving) -> int:
    """Return the port at which a sidecar listens, once it does."""
    process.wait_for("listening at")
    return int(process.told().partition("listening at 127.0.0.1:")[2].partition(",")[0])


@contextmanager
def deaf() -> Iterator[str]:
    """Accept connections, and say nothing on them, while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def waiting(process: Serving) -> Iterator[None]:
    """Wait for a reply that does not come, as a client."""
    with socket.create_connection(("127.0.0.1", port_of(process))) as client:
        client.sendall(BLPOP)
        time.sleep(0.3)
        yield


def cpu_seconds(process: Serving) -> float:
    """Return how much CPU time a process has taken so far."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def until_it_has_worked(process: Serving, seconds: float) -> None:
    """Wait until a sidecar has taken so much CPU time, which on any machine is as far as it got, or listens."""
    wait_until(lambda: cpu_seconds(process) >= seconds or "listening at" in process.told(), "it does not start")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("embedded", [False, True], ids=["upstream", "embedded"])
def test_whenever_it_is_told_to_end_it_does(
    number: signal.Signals, embedded: bool, redis_server: Server, tmp_path: Path
) -> None:
    """From the first moment on, at moments that are drawn anew each time, the last of them when it listens.

    Before it heeds signals the system ends it, which is as good: nothing has begun.
    """
    more = ["--embedded"] if embedded else []
    with serving(tmp_path, *options(redis_server, *more)) as process:
        process.wait_for("listening at")
        most_seconds = cpu_seconds(process)
        process.signal(number)
        assert process.end() == 0
    seen = set()
    for step in range(STEPS + 1):
        with serving(tmp_path, *options(redis_server, *more)) as process:
            if step < STEPS:
                until_it_has_worked(process, most_seconds * (step + random.random()) / STEPS)
            else:
                process.wait_for("listening at")
            process.signal(number)
            seen.add(process.end())
            # Ctrl-C before the first line of ours is Python's own business.
            assert process.faults in ([], ["", "Aborted!"]) or "/asynq_ttl/" not in process.told(), process.told()
    assert seen <= {0, -number, 1 if number is signal.SIGINT else 0}, seen
    assert 0 in seen


def test_reloading_never_ends_it(redis_server: Server, tmp_path: Path) -> None:
    """SIGHUP, from when it has begun, however early."""
    with serving(tmp_path, *options(redis_server, "--policy", tmp_path / "policy.yaml")) as process:
        os.mkfifo(tmp_path / "policy.yaml")
        with (tmp_path / "policy.yaml").open("w") as policy:  # it is just about to read it
            process.signal(signal.SIGHUP)
            policy.write("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
        process.wait_for("listening at")
        (tmp_path / "policy.yaml").unlink()
        (tmp_path / "policy.yaml").write_text("version: 1\nrules: [{name: all, archived: {ttl: 2h}}]")
        process.signal(signal.SIGHUP)
        process.wait_for("is in force, mode enforce")
        process.signal(signal.SIGTERM)
        assert process.end() == 0


def test_a_client_that_waits_is_waited_for_only_so_long(redis_server: Server, tmp_path: Path) -> None:
    """SIGTERM: after the drain timeout its connection is closed, and the status is 0."""
    with serving(tmp_path, *options(redis_server, "--drain-timeout", "0.5")) as process:
        process.wait_for("is up")
        with waiting(process):
            process.signal(signal.SIGTERM)
            assert process.end() == 0
    assert "the drain timeout is over" in process.told()


@pytest.mark.parametrize("number", NUMBERS)
def test_asked_twice_it_waits_for_nobody(number: signal.Signals, redis_server: Server, tmp_path: Path) -> None:
    """However long the drain timeout is; asked more often, it ends the same way."""
    with serving(tmp_path, *options(redis_server, "--drain-timeout", "600")) as process:
        process.wait_for("is up")
        with waiting(process):
            process.signal(number)
            process.wait_for("draining")
            for _ in range(3):
                process.signal(number)
            assert process.end() == 0
    assert "it was asked for twice" in process.told()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize("fails", [False, True], ids=["stopped", "not started"])
def test_a_collector_that_says_nothing(protocol: str, fails: bool, redis_server: Server, tmp_path: Path) -> None:
    """It holds up neither the end nor a start that fails."""
    with deaf() as collector:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{collector}", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        more = ["--listen", collector] if fails else []
        with serving(tmp_path, *options(redis_server, *more), variables=variables) as process:
            if fails:
                assert process.fail() == 1
                return
            process.wait_for("is up")
            with socket.create_connection(("127.0.0.1", port_of(process))) as client:
                client.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nx\r\n")
                client.recv(100)
                process.signal(signal.SIGTERM)
                assert process.end() == 0


def test_a_redis_that_says_nothing(tmp_path: Path) -> None:
    """It is stopped in the middle: the sweeper's lock cannot be given back, and that is not waited for."""
    with start_redis() as server:
        policy = tmp_path / "policy.yaml"
        policy.write_text("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
        more = ["--policy", policy, "--sweep-interval", "0.1", "--drain-timeout", "0.2"]
        with serving(tmp_path, *options(server, *more)) as process:
            process.wait_for("is up")
            time.sleep(0.5)
            with waiting(process):
                server.process.send_signal(signal.SIGSTOP)
                time.sleep(0.3)
                process.signal(signal.SIGTERM)
                assert process.end() == 0
                server.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel"])
def test_an_upstream_that_says_nothing_from_the_start(scheme: str, tmp_path: Path) -> None:
    """Also while it is waited for."""
    with deaf() as upstream:
        name = "/main" if "sentinel" in scheme else ""
        line = ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--upstream", f"{scheme}://{upstream}{name}"]
        for seconds in (0.0, 1.0):
            with serving(tmp_path, *line) as process:
                process.wait_for("clients instead of" if seconds == 0 else "listening at")
                process.signal(signal.SIGTERM)
                assert process.end() == 0


def test_readers_of_the_admin_server_that_do_not_leave(redis_server: Server, tmp_path: Path) -> None:
    """One follows the stream and reads nothing, another has asked half a question."""
    admin = f"unix:{tmp_path}/admin.sock"
    with serving(tmp_path, *options(redis_server, "--admin", admin)) as process:
        process.wait_for("listening at")
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client, sent in zip(clients, (b"GET /api/decisions/stream", b"GET /metrics", b"GET /"), strict=True):
            client.connect(f"{tmp_path}/admin.sock")
            client.sendall(sent + b" HTTP/1.1\r\nHost: localhost\r\n" + (b"" if sent == b"GET /" else b"\r\n"))
        time.sleep(0.3)
        process.signal(signal.SIGTERM)
        assert process.end() == 0
        for client in clients:
            client.close()
    assert not (tmp_path / "admin.sock").exists()


def test_a_drain_by_the_admin_server_is_no_other_end(redis_server: Server, tmp_path: Path) -> None:
    """Its status is 0; SIGTERM after it is the second time of asking."""
    admin = f"127.0.0.1:{free_port()}"
    with serving(tmp_path, *options(redis_server, "--admin", admin, "--drain-timeout", "600")) as process:
        process.wait_for("is up")
        with waiting(process):
            connection = HTTPConnection(admin)
            connection.request("POST", "/api/drain")
            assert connection.getresponse().status == HTTPStatus.ACCEPTED
            connection.close()
            process.wait_for("draining")
            process.signal(signal.SIGTERM)
            assert process.end() == 0


def test_the_drain_command_waits_for_the_end(redis_server: Server, tmp_path: Path) -> None:
    """Its own status is 0 as well."""
    with serving(tmp_path, *options(redis_server)) as process:
        process.wait_for("listening at")
        assert run("drain", "--pid", process.process.pid).returncode == 0
        assert process.end() == 0


def test_a_policy_file_that_cannot_be_read_to_its_end_holds_up_no_end(redis_server: Server, tmp_path: Path) -> None:
    """The file has become a pipe that nobody writes to; every way of reading it again was asked for."""
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
    with serving(tmp_path, *options(redis_server, "--policy", policy)) as process:
        process.wait_for("listening at")
        policy.unlink()
        os.mkfifo(policy)
        process.signal(signal.SIGHUP)
        process.wait_for("is a pipe or the like")
        process.wait_for("is no regular file, and is not watched")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
