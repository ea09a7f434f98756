"""Whatever fails at the start ends in one line and a status, within two seconds; told to end, a sidecar ends."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import command_line
from support.servers import Server, free_port, wait_until

# Interpreters start slowly while other tests run; what is promised is two seconds on a machine that is idle.
SECONDS = 15


@contextmanager
def serving(*options: object) -> Iterator["subprocess.Popen[str]"]:
    """Start a sidecar; its log is its standard error."""
    line = command_line("serve", *options)
    with subprocess.Popen(line, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Return a sidecar's exit status and what it said; fails if it does not end."""
    _, said = process.communicate(timeout=SECONDS)
    return process.returncode, said


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody else listens at."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        yield other.getsockname()[1]


STARTS = {
    "the port is taken": (["--listen", "127.0.0.1:{taken}"], 1, "cannot listen at 127.0.0.1:"),
    "the admin port is taken": (["--admin", "127.0.0.1:{taken}"], 1, "admin server cannot listen at 127.0.0.1:"),
    "no such address": (["--listen", "192.0.2.1:7000"], 1, "cannot listen at 192.0.2.1:7000"),
    "no folder for the socket": (["--listen", "unix:{folder}/no/socket"], 1, "cannot listen at unix:"),
    "a file where the socket belongs": (["--listen", "unix:{folder}/file"], 1, "in use"),
    "no policy file": (["--policy", "{folder}/absent.yaml"], 2, "absent.yaml"),
    "a policy with faults": (["--policy", "{folder}/file"], 2, "file:1"),
    "a URL with faults": (["--upstream", "redis://:Azure1secret/x=@h:6379/0"], 2, "percent-encode"),
    "no certificate": (["--tls-cert", "{folder}/absent", "--tls-key", "{folder}/absent"], 2, "absent"),
    "a certificate with faults": (["--tls-cert", "{folder}/file", "--tls-key", "{folder}/file"], 2, "file"),
    "no CA file": (["--upstream", "rediss://127.0.0.1:1/0?ssl_ca_certs={folder}/absent"], 2, "absent"),
    "no token file": (["--admin-token-file", "{folder}/absent"], 2, "absent"),
    "no such sink": (["--sink", "ftp://h/x"], 2, "expected file:PATH"),
}
"""Each fault at the start: options, exit status, and what the line says."""


@pytest.mark.parametrize("fault", STARTS)
@pytest.mark.parametrize("admin", ["off", "127.0.0.1:0"])
def test_a_fault_at_the_start_is_one_line_and_a_status(
    fault: str, admin: str, redis_server: Server, taken: int, tmp_path: Path
) -> None:
    """Nothing hangs, with a Redis that is up and with the admin server on or off; no line shows a secret."""
    (tmp_path / "file").write_text("version: 2\nmode: off\n")
    options, status, line = STARTS[fault]
    given = ["--listen", f"127.0.0.1:{free_port()}", "--upstream", redis_server.url, "--admin", admin]
    filled = [option.format(taken=taken, folder=tmp_path) for option in options]
    with serving(*given, *filled) as process:
        ended, said = end_of(process)
    errors = [each for each in said.splitlines() if each and not each.startswith(("20", "Usage", "Try"))]
    assert (ended, len(errors)) == (status, 1), said
    assert line in errors[0]
    assert "Traceback" not in said
    assert "Azure1" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_at_any_moment_it_ends(number: signal.Signals, redis_server: Server) -> None:
    """Before it handles signals the kernel ends it; from then on it drains. It never waits for a second signal."""
    for step in range(8):
        with serving(
            "--listen", f"127.0.0.1:{free_port()}", "--upstream", redis_server.url, "--admin", "off"
        ) as process:
            time.sleep(step * 0.15)
            process.send_signal(number)
            status, said = end_of(process)
        assert status in (0, 1, -number), said


def test_a_redis_that_hangs_holds_up_no_end(redis_server: Server) -> None:
    """It answers nothing, neither to the sweeper's lock nor to the closing of a connection."""
    listen = f"127.0.0.1:{free_port()}"
    with serving(
        "--listen", listen, "--upstream", redis_server.url, "--sweep-interval", "0.2", "--admin", "off"
    ) as process:
        wait_until(lambda: _answers(listen), "it does not listen")
        time.sleep(1)
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            status, said = end_of(process)
            assert status == 0, said
            assert time.monotonic() - began < 5
        finally:
            redis_server.process.send_signal(signal.SIGCONT)


def test_the_second_at_a_unix_socket_ends_and_the_first_goes_on(redis_server: Server, tmp_path: Path) -> None:
    """For clients and for the admin server. When the first ends, it leaves no socket behind."""
    path, admin = tmp_path / "clients", tmp_path / "admin"
    given = ["--listen", f"unix:{path}", "--upstream", redis_server.url, "--admin"]
    with serving(*given, f"unix:{admin}") as first:
        wait_until(path.exists, "it does not listen")
        with serving(*given, "off") as second:
            status, said = end_of(second)
            assert status == 1, said
            assert f"cannot listen at unix:{path}: another process listens there" in said
        others = ["--listen", f"unix:{tmp_path}/other", "--upstream", redis_server.url, "--admin", f"unix:{admin}"]
        with serving(*others) as third:
            status, said = end_of(third)
            assert (status, "another process listens there" in said) == (1, True), said
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            assert client.recv(100) == b"+PONG\r\n"
        first.send_signal(signal.SIGTERM)
        assert end_of(first)[0] == 0
    assert not path.exists()
    assert not admin.exists()


def _answers(listen: str) -> bool:
    host, _, port = listen.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0
