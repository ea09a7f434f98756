"""What is deleted, and in which order. That it is: `tests/integration/existing_keys/test_clean.py`."""

import json
from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.clean import Clean, CleanFilter
from asynq_ttl.existing_keys.named_files import FileError
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.task_file import TaskFile
from asynq_ttl.policy.glob import compile_glob
from support.scripted_database import NOW, ScriptedDatabase, task_of

DAY = 86_400
UNREADABLE = Task("q", b"json", "archived", size=9, score=b"%d" % (NOW - 3 * DAY), digest=b"digest")
TASKS = [
    task_of("archived", name="old", score=NOW - 3 * DAY),
    task_of("archived", name="young", score=NOW - DAY, task_type="mail"),
    task_of("archived", name="held", score=NOW - 3 * DAY, held=True),
    task_of("completed", name="done", queue="p", score=NOW, completed_at=NOW - 3 * DAY),
    task_of("pending", name="live"),
    UNREADABLE,
]
ARCHIVED = TaskFilter(states=("archived",))


class Messages(ScriptedDatabase):
    """A database whose hashes have messages to be read one by one."""

    message: bytes | None = b"{}"

    def ask(self, key: bytes, command: str, *arguments: Any) -> Any:
        """Return the message of any task."""
        return self.message if command == "HGET" else super().ask(key, command, *arguments)


def cleaned(
    wanted: CleanFilter, *, position: tuple[Any, ...] = (), file: TaskFile | None = None
) -> tuple[list[Change], Clean, Messages]:
    """Return the changes of a run, the run and its database."""
    database, shown = Messages(TASKS), list[Change]()
    walk = Clean(database, wanted, Changer(database, None, apply=True, show=shown.append), now=NOW, file=file)
    walk.run(walk.indexes(["p", "q"]), position)
    return shown, walk, database


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (CleanFilter(ARCHIVED), ["json", "old", "young"]),
        (CleanFilter(ARCHIVED, older_than=2 * DAY), ["json", "old"]),
        (CleanFilter(TaskFilter(states=("archived",), types=(compile_glob("mail"),))), ["young"]),
        (CleanFilter(ARCHIVED, errors=(compile_glob("no *"),)), []),
        (CleanFilter(TaskFilter(queues=(compile_glob("p"),), states=("completed", "archived"))), ["done"]),
    ],
)
def test_only_what_matches_goes(wanted: CleanFilter, ids: list[str]) -> None:
    """By each part of the filter; what is held never does."""
    changes, walk, _ = cleaned(wanted)
    assert sorted(change.id for change in changes) == ids
    assert {change.action for change in changes} <= {"remove"}
    assert walk.seen["held"] == (0 if wanted.by_content or wanted.tasks.queues else 1)


def test_a_message_that_cannot_be_read_matches_no_glob_of_it() -> None:
    """And is told of where one was asked for."""
    _, walk, database = cleaned(CleanFilter(ARCHIVED, errors=(compile_glob("*"),)))
    assert walk.seen["tasks"] == 4
    assert database.left_out.unreadable == 1
    assert not CleanFilter(ARCHIVED, errors=(compile_glob("*"),)).matches(UNREADABLE, NOW)


def test_a_change_checks_what_decided_it() -> None:
    """State, score and message."""
    (change,), _, _ = cleaned(CleanFilter(TaskFilter(queues=(compile_glob("p"),), states=("completed",))))
    assert (change.score, change.digest, change.state, change.index) == (str(NOW), "digest", "completed", "completed")
    assert change.reason == "completed at 2023-11-11T22:13:20Z"


def test_a_ghost_is_no_task() -> None:
    """Its entry is for `backfill --ghosts`."""
    database = ScriptedDatabase([task_of("archived", name="old", score=5)])
    database.indexes[b"asynq:{q}:archived"].append((9, b"ghost"))
    walk = Clean(database, CleanFilter(ARCHIVED), Changer(database, None, apply=False, show=lambda _: None), now=NOW)
    walk.run(walk.indexes(["q"]))
    assert walk.seen == {"tasks": 1, "ghosts": 1}


def test_a_run_goes_on_where_it_was() -> None:
    """What comes before is done."""
    changes, _, _ = cleaned(CleanFilter(ARCHIVED), position=("index", "q", "archived", str(NOW - 3 * DAY), "old"))
    assert [change.id for change in changes] == ["young"]


@pytest.mark.parametrize("message", [b"{}", b"", b"x" * 200_000])
def test_each_task_is_written_down_before_it_goes(tmp_path: Path, message: bytes) -> None:
    """One whose message cannot be read goes only with the very message that was written."""
    Messages.message = message
    path = tmp_path / "gone"
    with TaskFile(path) as file:
        changes, _, _ = cleaned(CleanFilter(ARCHIVED), file=file)
    lines = {line["id"]: line for line in map(json.loads, path.read_text().splitlines())}
    assert lines.keys() == {"old", "young", "json"} == {change.id for change in changes}
    (digest,) = {change.digest for change in changes if change.id == "json"}
    expected = {b"": "none", b"{}": "bf21a9e8fbc5a3846fb05b4fa0859e0917b2202f"}.get(message, f"size {len(message)}")
    assert digest == expected


def test_what_was_not_written_down_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no more ends the run before anything of the page is deleted."""

    def full(_file: TaskFile) -> None:
        raise FileError("full")

    monkeypatch.setattr(TaskFile, "sync", full)
    database = Messages(TASKS)
    changer = Changer(database, None, apply=True, show=lambda _: None)
    with TaskFile(tmp_path / "gone") as file:
        walk = Clean(database, CleanFilter(ARCHIVED), changer, now=NOW, file=file)
        with pytest.raises(FileError):
            walk.run(walk.indexes(["q"]))
    assert database.changes == []


def test_what_is_another_by_the_time_it_is_written_is_left_out(tmp_path: Path) -> None:
    """It was held, or is in another state."""

    class Changing(Messages):
        def _read_tasks(self, *arguments: Any) -> list[list[Any]]:
            key = b"asynq:{q}:t:old"
            self.tasks[key] = task_of("archived", name="old", score=NOW - 3 * DAY, held=True)
            self.tasks[b"asynq:{q}:t:young"] = task_of("pending", name="young")
            return super()._read_tasks(*arguments)

    database, shown = Changing(TASKS), list[Change]()
    with TaskFile(tmp_path / "gone") as file:
        changer = Changer(database, None, apply=True, show=shown.append)
        walk = Clean(database, CleanFilter(ARCHIVED), changer, now=NOW, file=file)
        walk.run(walk.indexes(["q"]))
    assert [change.id for change in shown] == ["json"]
