"""`asynq-ttl persist`: what is asked for becomes what is changed."""

import json
from pathlib import Path

import pytest

from support.scripted_database import ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool

TASKS = [
    task_of("archived", name="dead", score=5, ttl_ms=1000),
    task_of("archived", name="untimed", score=5),
    task_of("pending", name="live", ttl_ms=1000),
    task_of("completed", name="elsewhere", queue="p", ttl_ms=1000, task_type="y"),
]


@pytest.fixture
def database() -> ScriptedDatabase:
    """A database."""
    return ScriptedDatabase(TASKS)


@pytest.fixture
def run(database: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on that database."""
    return ScriptedTool(database, monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], {b"dead", b"live", b"elsewhere"}),
        (["--live"], {b"live"}),
        (["--state", "archived"], {b"dead"}),
        (["--state", "archived", "--state", "pending"], {b"dead", b"live"}),
        (["--queue", "p"], {b"elsewhere"}),
        (["--type", "y"], {b"elsewhere"}),
    ],
)
def test_what_is_asked_for_is_changed(
    options: list[str], ids: set[bytes], run: ScriptedTool, database: ScriptedDatabase
) -> None:
    """By state, queue and type; `--live` is whatever is neither archived nor completed."""
    result = run("persist", "--apply", *options)
    assert result.exit_code == 0, result.output
    assert {change[0] for change in database.changes} == ids
    assert (run.changing, run.closed) == ([True], 1)


def test_without_apply_it_only_tells(run: ScriptedTool, database: ScriptedDatabase) -> None:
    """A dry run needs no right to change anything."""
    result = run("persist")
    assert "would persist  q  archived  dead  x  " in result.stdout
    assert database.changes == []
    assert run.changing == [False]


def test_what_excludes_each_other(run: ScriptedTool) -> None:
    """Is a mistake of whoever typed it."""
    result = run("persist", "--live", "--state", "archived")
    assert (result.exit_code, result.output) == (2, "--live and --state exclude each other\n")
    assert run("persist", "--resume").exit_code == 2
    assert run.changing == []


def test_the_journal_tells_what_was_asked_for(run: ScriptedTool, tmp_path: Path) -> None:
    """With the states that `--live` stands for."""
    journal = tmp_path / "journal"
    assert run("persist", "--live", "--journal", journal).exit_code == 0
    told = json.loads(journal.read_text().splitlines()[0])["run"]
    assert (told["tool"], told["apply"]) == ("persist", False)
    assert told["states"] == ["pending", "active", "scheduled", "retry", "aggregating"]
