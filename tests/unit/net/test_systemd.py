"""What a supervisor leaves for this process, and what it is told."""

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from asynq_ttl.net import systemd
from asynq_ttl.net.systemd import Inheritance, Notice, inherited_sockets, tell


@pytest.mark.parametrize("abstract", [False, True])
def test_it_is_told(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One datagram for each notice, at a path or at an abstract name."""
    path = f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(f"\0{path}" if abstract else path)
        supervisor.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{path}" if abstract else path)
        tell(Notice.READY)
        tell(Notice.STOPPING)
        assert [supervisor.recv(100) for _ in range(2)] == [b"READY=1", b"STOPPING=1"]


def test_nobody_is_told_where_nobody_asked(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without the variable nothing is sent, and nothing is wrong."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell(Notice.READY)
    assert caplog.records == []


def test_a_supervisor_that_does_not_listen_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a warning."""
    monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/absent")
    with caplog.at_level(logging.WARNING):
        tell(Notice.READY)
    assert f"cannot tell the supervisor READY=1 at {tmp_path}/absent" in caplog.text


_INHERITS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="x")
from asynq_ttl.net.systemd import inherited_sockets
(inherited,) = inherited_sockets()
print(inherited.getsockname()[1], inherited.getblocking(), inherited.get_inheritable())
print(inherited_sockets(), [name for name in os.environ if name.startswith("LISTEN_")])
"""


def test_sockets_are_inherited_once() -> None:
    """They neither block nor are handed on, and no child takes the variables for its own."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", _INHERITS, str(listening.fileno())]
        run = subprocess.run(command, pass_fds=[listening.fileno()], capture_output=True, text=True, check=True)
        port = listening.getsockname()[1]
    assert run.stdout.splitlines() == [f"{port} False False", "[] []"]


@pytest.mark.parametrize(("process", "count"), [("", ""), ("1", "1"), ("own", ""), ("own", "-1"), ("x", "1")])
def test_sockets_of_another_process_are_not_touched(process: str, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that are meant for another process, or make no sense, name no sockets."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()) if process == "own" else process)
    monkeypatch.setenv("LISTEN_FDS", count)
    assert inherited_sockets() == []


def test_each_of_those_who_listen_gets_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the port; whoever gets the rest has what nobody else has."""
    first, second = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    path = socket.socket(socket.AF_UNIX)
    path.bind(str(tmp_path / "socket"))
    monkeypatch.setattr(systemd, "inherited_sockets", lambda: [first, path, second])
    ports = [each.getsockname()[1] for each in (first, second)]
    with first, second, path:
        whose = Inheritance()
        assert whose.at((ports[1],)) == [second]
        assert whose.at((ports[1], 1)) == []
        assert whose.rest() == [first, path]
        assert whose.rest() == whose.at(ports) == []
        assert Inheritance().rest() == [first, path, second]
