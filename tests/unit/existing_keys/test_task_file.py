"""A file of tasks: new, or gone on with; on the disk when it says so."""

import json
import os
from pathlib import Path

import pytest

from asynq_ttl.existing_keys.named_files import FileError
from asynq_ttl.existing_keys.task_file import TaskFile


def test_lines_are_on_the_disk_once_they_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before: they are written together."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((tmp_path / "f").stat().st_size))
    with TaskFile(tmp_path / "f") as file:
        file.write({"id": "a"})
        file.write({"id": "b"})
        file.sync()
    assert [json.loads(line)["id"] for line in (tmp_path / "f").read_text().splitlines()] == ["a", "b"]
    assert synced == [len(b'{"id": "a"}\n') * 2]


def test_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    """Unless the run goes on that began it."""
    (tmp_path / "f").write_text("mine")
    with pytest.raises(FileError, match="is there already: name another file"):
        TaskFile(tmp_path / "f")
    assert (tmp_path / "f").read_text() == "mine"


@pytest.mark.parametrize("left", ["", "{}\n", "{}\n{", "{", "{}\n" + "x" * 200_000, "x" * 200_000, "x" * 70_000 + "\n"])
def test_a_line_that_is_incomplete_is_cut_off(tmp_path: Path, left: str) -> None:
    """However long it is; whole lines stay."""
    path = tmp_path / "f"
    path.write_text(left)
    with TaskFile(path, resume=True) as file:
        file.write({"id": "a"})
    whole = left[: left.rfind("\n") + 1]
    assert path.read_text() == whole + '{"id": "a"}\n'


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Whenever it turns out."""
    with pytest.raises(FileError, match=r"none/f: No such file or directory"):
        TaskFile(tmp_path / "none" / "f")
    full = Path("/dev/full")
    file = TaskFile(full, resume=True)
    file.write({"id": "a"})
    with pytest.raises(FileError, match="/dev/full: No space left on device"):
        file.sync()
    with pytest.raises(FileError, match="/dev/full: No space left on device"):
        file.__exit__(None, None, None)


def test_the_first_error_is_the_one_that_is_told() -> None:
    """What a file could not write before, it tries once more when it is closed."""
    file = TaskFile(Path("/dev/full"), resume=True)
    file.write({"id": "a"})
    file.__exit__(ValueError, ValueError("first"), None)
