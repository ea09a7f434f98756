"""What the supervisor is told."""

import logging
import socket
from pathlib import Path

import pytest

from asynq_ttl.net.systemd import Notice, tell


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
