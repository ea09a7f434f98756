"""`asynq-ttl export`: which tasks are written, how, and where to."""

import json
from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from support.existing_keys import DAY
from support.scripted_database import NOW, ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool

TASKS = [
    task_of("archived", name="old", score=NOW - 9 * DAY),
    task_of("archived", name="young", score=NOW - DAY),
    task_of("archived", name="orphan", last_failed_at=NOW - 9 * DAY),
    task_of("completed", name="done", queue="p", score=NOW, completed_at=NOW - DAY, task_type="y"),
    task_of("pending", name="live"),
    Task("q", b"broken", "archived"),
]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on a database."""
    return ScriptedTool(ScriptedDatabase(TASKS), monkeypatch, tmp_path)


def lines(text: str) -> list[dict[str, Any]]:
    """Return JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], ["old", "young", "orphan", "done"]),
        (["--older-than", "7d"], ["old", "orphan"]),
        (["--state", "completed"], ["done"]),
        (["--queue", "p"], ["done"]),
        (["--type", "x"], ["old", "young", "orphan"]),
    ],
)
def test_what_is_asked_for_is_written(options: list[str], ids: list[str], run: ScriptedTool) -> None:
    """Terminal tasks alone, orphans included, as JSON lines."""
    result = run("export", *options)
    # One archived task of the queue q cannot be read.
    whole = options in (["--state", "completed"], ["--queue", "p"], ["--type", "x"])
    assert result.exit_code == (0 if whole else 1), result.output
    assert [line["id"] for line in lines(result.stdout)] == ids
    assert f"{len(ids)} tasks written" in result.stderr
    assert run.changing == [False]


def test_what_cannot_be_read_is_counted(run: ScriptedTool) -> None:
    """A note and the status say so; the lines are what could be read."""
    result = run("export")
    assert "4 tasks written\nleft out: 1 tasks whose message cannot be read" in result.stderr
    assert result.exit_code == 1


def test_payloads_are_base64_unless_text_is_asked_for(run: ScriptedTool) -> None:
    """Which is readable, and lossless only for UTF-8."""
    assert lines(run("export", "--type", "y").stdout)[0]["payload_base64"] == "e30="
    assert lines(run("export", "--type", "y", "--payload", "text").stdout)[0]["payload"] == "{}"


def test_a_file_is_a_new_one(run: ScriptedTool, tmp_path: Path) -> None:
    """What is there is not written over; what cannot be written is told."""
    output = tmp_path / "tasks"
    result = run("export", "--output", output, "--type", "?*")
    assert (result.exit_code, result.stdout) == (0, "")
    assert len(lines(output.read_text())) == 4
    again = run("export", "--output", output, "--type", "?*")
    assert (again.exit_code, again.output) == (1, f"{output} is there already: name another file\n")
    nowhere = run("export", "--output", tmp_path / "absent" / "tasks")
    assert nowhere.exit_code == 1
    assert nowhere.output.endswith("tasks: No such file or directory\n")
