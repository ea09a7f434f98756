"""Starting, draining, restarting: nobody is refused, and nobody waits longer than was said."""

import json
import select
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.caller import PING, Caller
from support.commands import command_line, run
from support.servers import Server, Sidecar, SidecarFactory, connect, free_port, start_redis, wait_until


def test_a_restart_by_sharing_the_port_refuses_nobody(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """A new sidecar starts beside the old one, which is then told to end: every connection is answered."""
    old = start_sidecar(redis_server.url, reuse_port="")
    with Caller(old.port) as caller:
        for _ in range(3):
            time.sleep(0.3)
            new = start_sidecar(redis_server.url, listen=old.address, reuse_port="")
            assert old.stop() == 0
            old = new
        calls = caller.calls
        wait_until(lambda: caller.calls > calls + 50, "nobody is served any more")
    assert caller.problems == []


def test_without_it_a_port_is_not_shared(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """A second sidecar at the same port is a mistake, and says so."""
    first = start_sidecar(redis_server.url)
    done = run("serve", "--listen", first.address, "--admin", "off")
    assert done.returncode == 1
    assert f"cannot listen at {first.address}" in done.stderr


def test_the_admin_port_is_shared_as_well(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """A new sidecar with the same settings answers there at once, and goes on when the old one ends."""
    admin = f"127.0.0.1:{free_port()}"
    old = start_sidecar(redis_server.url, reuse_port="", admin=admin)
    new = start_sidecar(redis_server.url, "version: 1\nmode: off", listen=old.address, reuse_port="", admin=admin)
    for stop in (False, True):
        if stop:
            assert old.stop() == 0
        with urllib.request.urlopen(f"http://{admin}/api/policy") as answer:
            assert json.load(answer)["mode"] == "off"
    assert ready(new, admin)[0] == 0


@contextmanager
def activated(listening: socket.socket, upstream: str, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Start a sidecar as systemd's socket activation does, until it answers."""
    program = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
        "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    )
    python, *serve = command_line("serve", "--upstream", upstream, "--admin", "off")
    command = [python, "-c", program, str(listening.fileno()), *serve]
    with (
        log.open("ab") as out,
        subprocess.Popen(command, pass_fds=[listening.fileno()], stderr=out) as process,
    ):
        try:
            wait_until(lambda: "listening at" in log.read_text(), "it does not start")
            yield process
        finally:
            process.terminate()
            assert process.wait(20) == 0


def test_a_restart_by_socket_activation_refuses_nobody(redis_server: Server, tmp_path: Path) -> None:
    """While no sidecar runs, clients wait in the queue of the socket that a supervisor holds."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        port = listening.getsockname()[1]
        with activated(listening, redis_server.url, tmp_path / "log-1"):
            caller = Caller(port)
            caller.__enter__()
            wait_until(lambda: caller.calls > 50, "it does not answer")
        time.sleep(0.5)
        with activated(listening, redis_server.url, tmp_path / "log-2"):
            calls = caller.calls
            wait_until(lambda: caller.calls > calls + 50, "it does not answer")
            caller.__exit__()
    assert caller.problems == []
    assert f"listening at 127.0.0.1:{port}" in (tmp_path / "log-2").read_text()


def test_a_unix_socket_can_be_inherited(redis_server: Server, tmp_path: Path) -> None:
    """It is left in place when the sidecar ends."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with (
            activated(listening, redis_server.url, tmp_path / "log"),
            connect(unix_socket_path=str(path)) as client,
        ):
            assert client.ping()
        assert path.exists()
    assert f"listening at unix:{path}" in (tmp_path / "log").read_text()


def test_a_drain_is_spread_and_pub_sub_goes_last(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """Idle connections are closed a few at a time, so that clients do not all come back at once."""
    sidecar = start_sidecar(redis_server.url)
    idle = [socket.create_connection(("127.0.0.1", sidecar.port)) for _ in range(100)]
    for connection in idle:
        connection.sendall(PING)
        assert connection.recv(100) == b"+PONG\r\n"
    subscriber = socket.create_connection(("127.0.0.1", sidecar.port))
    subscriber.sendall(b"*2\r\n$9\r\nSUBSCRIBE\r\n$12\r\nasynq:cancel\r\n")
    assert subscriber.recv(100).startswith(b"*3")
    assert sidecar.process is not None
    sidecar.process.terminate()
    closed: dict[socket.socket, float] = {}
    while len(closed) < 101:
        for connection in select.select([each for each in (*idle, subscriber) if each not in closed], [], [], 60)[0]:
            assert connection.recv(10) == b""
            closed[connection] = time.monotonic()
    assert max(closed.values()) == closed[subscriber]
    assert max(closed.values()) - min(closed.values()) > 0.25
    assert sidecar.process.wait(30) == 0
    for connection in (*idle, subscriber):
        connection.close()


def test_a_second_sigterm_ends_it_at_once(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """Whoever asks twice does not want to wait."""
    sidecar = start_sidecar(redis_server.url, drain_timeout="600")
    sidecar.expected_warnings.append("it was asked for twice")
    with socket.create_connection(("127.0.0.1", sidecar.port)) as waiting:
        waiting.sendall(b"*3\r\n$5\r\nBLPOP\r\n$5\r\nnever\r\n$1\r\n0\r\n")
        time.sleep(0.3)
        assert sidecar.process is not None
        sidecar.process.terminate()
        wait_until(lambda: "draining" in sidecar.log(), "it does not drain")
        time.sleep(0.3)
        assert sidecar.process.poll() is None
        sidecar.process.terminate()
        assert sidecar.process.wait(30) == 0


def test_the_drain_verb_waits_for_the_end(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """`asynq-ttl drain` ends when the sidecar has."""
    sidecar = start_sidecar(redis_server.url)
    assert sidecar.process is not None
    done = run("drain", "--pid", sidecar.process.pid)
    assert (done.returncode, done.stdout) == (0, "drained\n"), done.stderr
    assert sidecar.process.wait(30) == 0


def ready(sidecar: Sidecar, admin: str, *options: str) -> tuple[int, str]:
    """Ask a sidecar by the verb."""
    done = run("ready", *options, ASYNQ_TTL_ADMIN=admin)
    return done.returncode, done.stdout + done.stderr


def test_the_ready_verb_asks_the_admin_server(start_sidecar: SidecarFactory) -> None:
    """Alive and started without Redis, ready only with it; what is missing is said."""
    admin, port = f"127.0.0.1:{free_port()}", free_port()
    sidecar = start_sidecar(f"redis://127.0.0.1:{port}/0", admin=admin)
    sidecar.expected_warnings.append("is down")
    assert ready(sidecar, admin, "--live")[0] == 0
    assert ready(sidecar, admin, "--startup")[0] == 0
    status, text = ready(sidecar, admin)
    assert status == 1
    assert f"127.0.0.1:{port}" in text
    with start_redis(port=port):
        wait_until(lambda: "is up" in sidecar.log(), "it does not recover")
        assert ready(sidecar, admin)[0] == 0


def test_the_ready_verb_asks_by_a_unix_socket(
    redis_server: Server, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """The admin server may listen there; a socket without a server is no answer."""
    admin = f"unix:{tmp_path}/admin.sock"
    assert ready(start_sidecar(redis_server.url, admin=admin), admin, "--startup")[0] == 0
    absent = f"unix:{tmp_path}/absent.sock"
    status, text = ready(start_sidecar(redis_server.url, admin="off"), absent)
    assert status == 1
    assert "no answer from the admin server" in text
