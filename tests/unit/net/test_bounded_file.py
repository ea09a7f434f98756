"""Files of every kind end when they are read; what is a pipe is read as what it is."""

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asynq_ttl.net import bounded_file
from asynq_ttl.net.bounded_file import read_bounded, require_regular, write_whole

LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for as long as in earnest."""
    monkeypatch.setattr(bounded_file, "NOBODY_SECONDS", 0.2)
    monkeypatch.setattr(bounded_file, "SILENT_SECONDS", 0.4)


def fifo(folder: Path) -> Path:
    """Make a pipe with a name."""
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    """No byte more."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 200_000)
    assert read_bounded(file, LIMIT) == b"x" * 200_000
    assert read_bounded(str(file), 70_000) == b"x" * 70_000
    assert read_bounded("/dev/zero", LIMIT) == bytes(LIMIT)
    assert read_bounded("/dev/null", LIMIT) == b""


def test_a_pipe_without_a_writer_is_given_up(tmp_path: Path) -> None:
    """It is said that nobody writes."""
    with pytest.raises(OSError, match="nobody writes to this pipe"):
        read_bounded(fifo(tmp_path), LIMIT)


def test_a_writer_may_come_late_and_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it writes is read to its end."""
    monkeypatch.setattr(bounded_file, "NOBODY_SECONDS", 60)
    monkeypatch.setattr(bounded_file, "SILENT_SECONDS", 60)
    pipe = fifo(tmp_path)

    def write() -> None:
        time.sleep(0.2)
        with pipe.open("wb", buffering=0) as file:
            for _ in range(3):
                file.write(b"x" * 100_000)
                time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_bounded(pipe, LIMIT) == b"x" * 300_000
    writer.join()


def test_a_writer_that_is_silent_is_given_up(tmp_path: Path) -> None:
    """Also after it has said something."""
    pipe = fifo(tmp_path)
    handle = os.open(pipe, os.O_RDWR)
    for said in (b"", b"x"):
        os.write(handle, said)
        with pytest.raises(OSError, match="does not come to an end"):
            read_bounded(pipe, LIMIT)
    os.close(handle)


def test_what_a_writer_left_behind_is_read() -> None:
    """As a shell's `<(command)` is whose command has ended."""
    reading, writing = os.pipe()
    os.write(writing, b"left")
    os.close(writing)
    assert read_bounded(f"/dev/fd/{reading}", LIMIT) == b"left"
    os.close(reading)


def test_a_device_that_is_silent_is_given_up() -> None:
    """Such as a terminal at which nobody types."""
    leader, follower = os.openpty()
    with pytest.raises(OSError, match="nothing comes from this device"):
        read_bounded(os.ttyname(follower), LIMIT)
    os.close(leader)
    os.close(follower)


@pytest.mark.parametrize("check", [lambda path: read_bounded(path, LIMIT), require_regular])
def test_what_is_no_file_is_an_error(check: Callable[[Path], object], tmp_path: Path) -> None:
    """A folder, a socket, nothing."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    for path in (tmp_path, tmp_path / "socket", tmp_path / "nothing"):
        with pytest.raises(OSError):  # noqa: PT011 - the system's own words
            check(path)
    listening.close()


def test_only_a_regular_file_can_be_read_again(tmp_path: Path) -> None:
    """No pipe can."""
    file = tmp_path / "file"
    file.touch()
    require_regular(file)
    with pytest.raises(OSError, match="is no regular file"):
        require_regular(fifo(tmp_path))


def test_a_file_is_written_whole(tmp_path: Path) -> None:
    """What was there before is gone. A pipe needs somebody who reads; a folder is none."""
    file = tmp_path / "file"
    write_whole(file, b"longer")
    write_whole(file, b"x")
    assert file.read_bytes() == b"x"
    with pytest.raises(OSError, match="nobody reads from this pipe"):
        write_whole(fifo(tmp_path), b"x")
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path, b"x")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        opened = os.open(tmp_path / "pipe", os.O_WRONLY)  # waits for the reader
        write_whole(tmp_path / "pipe", b"y" * 30_000)
        os.close(opened)
        assert reader.stdout is not None
        assert reader.stdout.read() == b"y" * 30_000
