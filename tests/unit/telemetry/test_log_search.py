"""What a decision log says of a task, in whatever state its files are."""

import json
import os
from pathlib import Path

import pytest

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.telemetry import log_search
from asynq_ttl.telemetry.entries import entries_of
from asynq_ttl.telemetry.log_files import LogFiles
from asynq_ttl.telemetry.log_search import MOST_ENTRIES, search
from support.recorded import outcome, swept

BEGIN = b'{"kind": "begin", "time": "2026-01-01T00:00:00.000Z", "task_ids": true}\n'


def lines_of(*records: object) -> bytes:
    """Return records as the lines of a log."""
    entries = (entry for record in records for entry in entries_of(record, "", task_ids=True))  # type: ignore[arg-type]
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def written(path: Path, *records: object, most_bytes: int = 1 << 20, files: int = 10) -> Path:
    """Write a log, a record at a time."""
    log = LogFiles(path, most_bytes, files)
    for record in records:
        log.append(BEGIN, lines_of(record))
    return path


@pytest.mark.parametrize(
    "task_id", ["a", "a b", 'q"', "n\n", "\x00", "{x}:t:", text_of(b"\xff"), "x" * 3_000, "decision"]
)
def test_a_task_is_found_in_all_files(tmp_path: Path, task_id: str) -> None:
    """In the order in which it was written, and no other task is."""
    others = [outcome(task_id=f"other-{number}") for number in range(20)]
    path = written(tmp_path / "log", outcome(task_id=task_id), *others, swept("x", task_id), *others, most_bytes=2_000)
    answer = search(path, task_id)
    assert [entry["kind"] for entry in answer.entries] == ["decision", "sweep"]
    assert len(list(tmp_path.iterdir())) > 2
    assert answer.begins == "2026-01-01T00:00:00.000Z"
    assert answer.whole
    assert not search(path, "nobody").entries
    assert not search(path, task_id, "another queue").entries
    assert len(search(path, task_id, "mail").entries) == 2


def test_lines_that_are_no_entries_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half lines, other JSON, long lines and bytes that are not UTF-8 hide nothing."""
    monkeypatch.setattr(log_search, "_BLOCK", 1_000)
    path = tmp_path / "log"
    junk = [
        b'"a"',
        b'{"id": "a"',
        b'["a"]',
        b'{"id": "a"}',
        b'{"id": "a", "time": 3}',
        b'"a" \xff\xfe',
        b"[" * 900 + b'"a"',
    ]
    content = b"".join(line + b"\n" + lines_of(outcome(task_id="a")) for line in junk)
    path.write_bytes(BEGIN + content + b'"a"' * 2_000 + b"\n" + lines_of(swept("a")) + b'{"kind": "sweep", "id": "a"')
    kinds = [entry["kind"] for entry in search(path, "a").entries]
    assert kinds == ["decision"] * len(junk) + ["sweep"]


def test_lines_of_others_before_the_first_entry(tmp_path: Path) -> None:
    """They do not hide since when there are entries, and what they say of a task can be anything."""
    path = tmp_path / "log"
    path.write_bytes(b'{}\n\x00\xff\n\n{"time": "t", "ids": 5, "type": "a"}\n'.replace(b'"t"', b"5") * 9 + BEGIN)
    assert search(path, "a").begins == "2026-01-01T00:00:00.000Z"
    path.write_bytes(BEGIN + b'{"time": "t", "ids": 5, "type": "a"}\n{"time": "t", "ids": "\\"a\\"", "type": "a"}\n')
    assert not search(path, "a").entries


def test_the_latest_entries_are_kept(tmp_path: Path) -> None:
    """A task that is run again and again does not fill the memory."""
    path = tmp_path / "log"
    path.write_bytes(lines_of(*(outcome(task_id="a", ttl_seconds=number) for number in range(MOST_ENTRIES + 50))))
    found = [entry["ttl_seconds"] for entry in search(path, "a").entries]
    assert found == list(range(50, MOST_ENTRIES + 50))


def test_what_is_newest_can_be_enough(tmp_path: Path) -> None:
    """Within a bound the newest part is looked at, and it is said that this is not all."""
    numbers = range(100)
    path = written(
        tmp_path / "log", *(outcome(task_id="a", ttl_seconds=number) for number in numbers), most_bytes=3_000
    )
    for bound in (0, 1_000, 10_000):
        answer = search(path, "a", most_bytes=bound)
        found = [entry["ttl_seconds"] for entry in answer.entries]
        assert found == list(numbers[len(numbers) - len(found) :])
        assert len(found) <= bound / 200
        assert not answer.whole
        assert "was too large" in " ".join(answer.notes("log"))
    assert len(search(path, "a", most_bytes=1 << 20).entries) == 100


def test_what_a_log_lacks_is_said(tmp_path: Path) -> None:
    """Entries that were dropped, and tasks that were not named."""
    path = tmp_path / "log"
    hidden = BEGIN.replace(b"true", b"false")
    dropped = [{"kind": "dropped", "time": "2026", "entries": 3}, {"kind": "dropped", "time": "2026", "entries": "x"}]
    path.write_bytes(hidden + b"".join(json.dumps(each).encode() + b"\n" for each in dropped))
    answer = search(path, "a")
    assert (answer.dropped, answer.nameless) == (3, True)
    told = " ".join(answer.notes("log"))
    assert "lacks 3 entries" in told
    assert "--hide-task-ids" in told


def test_a_client_cannot_make_a_log_lack_anything(tmp_path: Path) -> None:
    """What it chose stands in a text, whose quotes are not those of a field."""
    path = written(tmp_path / "log", outcome(task_id='"kind": "dropped", "entries": 9, "task_ids": false'))
    answer = search(path, "a")
    assert (answer.dropped, answer.nameless) == (0, False)


def test_an_empty_log_says_so(tmp_path: Path) -> None:
    """There is nothing to say when it begins."""
    (tmp_path / "log").touch()
    assert search(tmp_path / "log", "a").notes("log") == ["The decision log log is empty."]


def test_a_file_without_any_entry_is_not_called_empty(tmp_path: Path) -> None:
    """It is another file, or a damaged one."""
    (tmp_path / "log").write_bytes(b"\x80\x00\xff" * 1_000)
    assert search(tmp_path / "log", "a").notes("log") == ["The decision log log has no line that is an entry."]


def test_older_files_alone_are_enough(tmp_path: Path) -> None:
    """Just after a file was given another name, and before a new one is begun."""
    path = written(tmp_path / "log", outcome(task_id="a"))
    path.rename(tmp_path / "log.20260101T000000.000000")
    assert len(search(path, "a").entries) == 1


def test_a_file_with_two_names_is_read_once(tmp_path: Path) -> None:
    """As one that is given another name while it is searched."""
    path = written(tmp_path / "log", outcome(task_id="a"))
    os.link(path, tmp_path / "log.20260101T000000.000000")
    assert len(search(path, "a").entries) == 1


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    """Nothing that would have to be waited for is opened."""
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("missing", "No such file"), ("pipe", "is no regular file"), (".", "is no regular file")):
        with pytest.raises(OSError, match=said):
            search(tmp_path / name, "a")
