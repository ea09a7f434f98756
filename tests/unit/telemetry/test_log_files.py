"""The files of a decision log: whole lines, a bounded number of files, and nothing else is touched."""

import errno
import os
from pathlib import Path
from typing import Self

import pytest

from asynq_ttl.telemetry.log_files import LogFiles, older_files

FIRST = b"first\n"


def content(path: Path) -> list[bytes]:
    """Return the lines of all files, the oldest first."""
    return [line for file in (*older_files(path), path) for line in file.read_bytes().splitlines(keepends=True)]


def test_a_file_begins_with_its_first_line(tmp_path: Path) -> None:
    """Once, unless a sidecar begins to write to it."""
    files = LogFiles(tmp_path / "log", 1_000, 3)
    files.append(FIRST, b"one\n")
    files.append(FIRST, b"two\n")
    files.append(FIRST, b"three\n", always=True)
    assert content(tmp_path / "log") == [FIRST, b"one\n", b"two\n", FIRST, b"three\n"]
    assert files.unsynced


def test_the_oldest_goes(tmp_path: Path) -> None:
    """There are never more files than may be, nor larger ones, and what is newest is there, in order."""
    path, lines = tmp_path / "log", [f"line {number:03}\n".encode() for number in range(100)]
    files = LogFiles(path, 60, 3)
    (tmp_path / "log.mine").write_text("not ours")
    (tmp_path / "log.20260101T000000.000000.gz").write_text("not ours")
    for line in lines:
        files.append(FIRST, line)
        assert len(older_files(path)) <= 2
        assert path.stat().st_size <= 60
    kept = [line for line in content(path) if line != FIRST]
    assert kept == lines[-len(kept) :]
    assert len(kept) > 10
    assert (tmp_path / "log.mine").exists()
    assert (tmp_path / "log.20260101T000000.000000.gz").exists()


def test_one_file_alone(tmp_path: Path) -> None:
    """Where only one may be, nothing older is kept."""
    files = LogFiles(tmp_path / "log", 20, 1)
    for number in range(9):
        files.append(FIRST, f"line {number}\n".encode())
    assert [file.name for file in tmp_path.iterdir()] == ["log"]


def test_half_a_line_gets_an_end(tmp_path: Path) -> None:
    """A process that was killed while it wrote has left it; the next line is whole."""
    (tmp_path / "log").write_bytes(b'{"half')
    LogFiles(tmp_path / "log", 1_000, 3).append(FIRST, b"whole\n", always=True)
    assert content(tmp_path / "log") == [b'{"half\n', FIRST, b"whole\n"]


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of some lines is taken back."""
    path = tmp_path / "log"
    files = LogFiles(path, 1_000, 3)
    files.append(FIRST, b"one\n")

    class Full:
        """A file on a disk that has room for three more bytes."""

        def __init__(self) -> None:
            self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND), "ab+", buffering=0)
            self._left = 3

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def seek(self, *where: int) -> int:
            return self._file.seek(*where)

        def fileno(self) -> int:
            return self._file.fileno()

        def write(self, data: memoryview) -> int:
            if not self._left:
                raise OSError(errno.ENOSPC, "No space left on device")
            written, self._left = self._file.write(data[: self._left]), 0
            return written or 0

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    with pytest.raises(OSError, match="No space"):
        files.append(FIRST, b"two\nthree\n")
    monkeypatch.undo()
    assert content(path) == [FIRST, b"one\n"]


def test_what_is_written_is_synced(tmp_path: Path) -> None:
    """Also before a file gets another name; a file that somebody took away is none to sync."""
    files = LogFiles(tmp_path / "log", 20, 3)
    files.append(FIRST, b"one\n")
    files.sync()
    assert not files.unsynced
    files.append(FIRST, b"two, which is too much\n")
    assert files.unsynced
    (tmp_path / "log").unlink()
    files.sync()
    assert not files.unsynced


def test_another_program_may_rotate_it(tmp_path: Path) -> None:
    """A file that was taken away is begun anew."""
    files = LogFiles(tmp_path / "log", 1_000, 3)
    files.append(FIRST, b"one\n")
    (tmp_path / "log").rename(tmp_path / "log.1")
    files.append(FIRST, b"two\n")
    assert (tmp_path / "log").read_bytes() == FIRST + b"two\n"


@pytest.mark.parametrize("place", ["missing/log", "."])
def test_what_cannot_be_written_is_an_error(tmp_path: Path, place: str) -> None:
    """A folder that is gone, or a folder in its place."""
    with pytest.raises(OSError, match=r"No such file|Is a directory"):
        LogFiles(tmp_path / place, 1_000, 3).append(FIRST, b"x\n")
