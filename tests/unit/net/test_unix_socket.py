"""Paths where sockets listen: what is taken, what is left alone, and what is given back."""

import errno
import fcntl
import os
import socket
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asynq_ttl.net import unix_socket
from asynq_ttl.net.unix_socket import ListeningPath


def taken(path: Path, *, private: bool = False) -> ListeningPath:
    """Listen at a path; the socket is closed with the test's process."""
    return ListeningPath(path, private=private)


def test_a_path_that_was_left_behind_is_taken_over(tmp_path: Path) -> None:
    """A sidecar that was killed leaves its socket, which must not keep the next one from starting."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    own = taken(path)
    with own.socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_path_where_somebody_listens_is_left_alone(tmp_path: Path) -> None:
    """Also one whose queue is full; who listens goes on."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        clients = [socket.socket(socket.AF_UNIX) for _ in range(3)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(str(path))
        with pytest.raises(OSError, match="another process listens there") as refused:
            taken(path)
        assert refused.value.errno == errno.EADDRINUSE
        other.accept()[0].close()
        for client in clients:
            client.close()


@pytest.mark.parametrize("kind", ["file", "folder", "link", "pipe"])
def test_what_is_no_socket_is_left_alone(kind: str, tmp_path: Path) -> None:
    """Whatever it is."""
    path, other = tmp_path / "path", tmp_path / "other"
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
        other.write_text("mine")
    before = path.lstat()
    with pytest.raises(OSError, match="is no socket, which is left alone"):
        taken(path)
    assert path.lstat() == before


def test_a_datagram_socket_is_somebody_elses(tmp_path: Path) -> None:
    """Whether anybody reads what is sent there cannot be told."""
    path = tmp_path / "log"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="another process listens there"):
            taken(path)


@pytest.mark.parametrize("stale", [False, True])
def test_a_link_is_followed(stale: bool, tmp_path: Path) -> None:
    """To nothing, or to a socket that was left behind; it stays a link."""
    path, link = tmp_path / "socket", tmp_path / "link"
    link.symlink_to("socket")
    if stale:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    own = taken(link)
    with own.socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(link))
        own.remove()
    assert link.is_symlink()
    assert not path.exists()


def test_only_the_own_path_is_removed(tmp_path: Path) -> None:
    """One that somebody else has put there meanwhile stays, and one that is gone is no fault."""
    path = tmp_path / "socket"
    first = taken(path)
    path.unlink()
    first.remove()
    second = taken(path)
    first.remove()
    assert path.exists()
    second.remove()
    assert not path.exists()
    first.socket.close()
    second.socket.close()


def test_a_private_path_is_private_from_the_first_moment(tmp_path: Path) -> None:
    """For its owner alone; what is made afterwards is not concerned."""
    with taken(tmp_path / "private", private=True).socket, taken(tmp_path / "open").socket:
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("private", "open")]
    assert modes[0] == 0o600
    assert modes[1] & 0o100


@pytest.mark.parametrize("stale", [False, True])
@pytest.mark.parametrize("round_number", range(20))
def test_of_many_that_start_together_one_listens(stale: bool, round_number: int, tmp_path: Path) -> None:
    """And it goes on to: each of the others is told that somebody listens there."""
    path = tmp_path / f"socket-{round_number}"
    if stale:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    together = threading.Barrier(4)

    def take(_number: int) -> ListeningPath | None:
        together.wait()
        try:
            return taken(path)
        except OSError:
            return None

    with ThreadPoolExecutor(4) as pool:
        won = [each for each in pool.map(take, range(4)) if each is not None]
    assert len(won) == 1
    with won[0].socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_lock_of_somebody_else_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read a folder can lock it."""
    monkeypatch.setattr(unix_socket, "_LOCK_SECONDS", 0.05)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    taken(tmp_path / "socket").socket.close()
    os.close(handle)


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then two that start together are not told apart, as before there were locks."""

    def flock(_handle: int, _kind: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    taken(tmp_path / "socket").socket.close()
