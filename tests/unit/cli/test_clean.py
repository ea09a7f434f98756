"""`asynq-ttl clean`: what is asked for becomes what is deleted."""

import json
from pathlib import Path

import pytest

from support.scripted_database import NOW, ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool

TASKS = [
    task_of("archived", name="dead", score=NOW - 90_000, error_msg="no"),
    task_of("archived", name="held", score=NOW - 90_000, held=True),
    task_of("completed", name="done", queue="p", score=NOW, completed_at=NOW - 5, task_type="y"),
]


@pytest.fixture
def database() -> ScriptedDatabase:
    """A database."""
    database = ScriptedDatabase(TASKS)
    database.indexes[b"asynq:{q}:archived"].insert(0, (5, b"ghost"))
    return database


@pytest.fixture
def run(database: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on that database."""
    return ScriptedTool(database, monkeypatch, tmp_path)


def test_without_apply_it_only_tells(run: ScriptedTool, database: ScriptedDatabase, tmp_path: Path) -> None:
    """A dry run needs no right to change anything, and writes no export."""
    result = run("clean", "--state", "archived", "--export", tmp_path / "gone")
    assert "would remove  q  archived  dead  x  archived at 2023-11-13T21:13:20Z" in result.stdout
    assert result.stderr.splitlines() == [
        "looked at 2 tasks; 1 that match are held, and stay; 1 ghosts left (backfill --ghosts drop)",
        f"{tmp_path}/gone is written with --apply",
    ]
    assert (database.changes, run.changing, (tmp_path / "gone").exists()) == ([], [False], False)


def test_what_matches_is_deleted(run: ScriptedTool, database: ScriptedDatabase, tmp_path: Path) -> None:
    """And written down before; the journal says which run it was."""
    files = ("--export", tmp_path / "gone", "--journal", tmp_path / "journal")
    result = run("clean", "--state", "completed", "--state", "archived", "--older-than", "1d", "--apply", *files)
    assert result.exit_code == 0, result.output
    assert [change[0] for change in database.changes] == [b"dead"]
    assert [json.loads(line)["id"] for line in (tmp_path / "gone").read_text().splitlines()] == ["dead"]
    told = json.loads((tmp_path / "journal").read_text().splitlines()[0])["run"]
    assert (told["tool"], told["older_than"], told["export"]) == ("clean", 86_400, f"{tmp_path}/gone")
    assert run.changing == [True]


def test_mistakes_are_told(run: ScriptedTool, tmp_path: Path) -> None:
    """With one line each; no journal is begun that would be in the way of the next try."""
    (tmp_path / "gone").write_text("mine")
    line = ("clean", "--state", "archived", "--apply", "--journal", tmp_path / "journal")
    taken = run(*line, "--export", tmp_path / "gone")
    assert (taken.exit_code, taken.output) == (1, f"{tmp_path}/gone is there already: name another file\n")
    assert not (tmp_path / "journal").exists()
    assert run("clean", "--apply").exit_code == 2
    assert run("clean", "--state", "archived", "--resume").exit_code == 2
    assert run("clean", "--state", "archived", "--type", "none").exit_code == 1
