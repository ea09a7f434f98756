"""`asynq-ttl backfill`: what it may do, and what it says it met. How it decides: `existing_keys`."""

import json
from pathlib import Path

import pytest

from support.existing_keys import DAY
from support.scripted_database import NOW, ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool

POLICY = "version: 1\nmode: %s\nrules: [{name: week, archived: {ttl: 7d}, completed: {ttl: 7d}}]"
TASKS = [
    task_of("archived", name="old", score=NOW - DAY),
    task_of("archived", name="timed", score=NOW - DAY, ttl_ms=1000),
    task_of("completed", name="done", score=NOW, completed_at=NOW - DAY, task_type="y"),
    task_of("archived", name="orphan", last_failed_at=NOW - DAY),
    task_of("pending", name="live"),
]


@pytest.fixture
def database() -> ScriptedDatabase:
    """A database."""
    return ScriptedDatabase(TASKS)


@pytest.fixture
def run(database: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on that database."""
    return ScriptedTool(database, monkeypatch, tmp_path)


def test_without_apply_it_only_tells(run: ScriptedTool, database: ScriptedDatabase) -> None:
    """No right to change anything is needed, in any mode of the policy."""
    result = run("backfill", policy=POLICY % "shadow")
    assert result.exit_code == 0, result.output
    assert "would ttl  q  archived  old  x  " in result.stdout
    assert database.changes == []
    assert (run.changing, run.closed) == ([False], 1)
    assert "looked at 3 terminal tasks, 1 of which have a TTL already; orphans not looked for (--orphans)" in (
        result.stderr
    )


def test_with_apply_it_changes(run: ScriptedTool, database: ScriptedDatabase) -> None:
    """What the same command told without it."""
    result = run("backfill", "--apply", policy=POLICY % "enforce")
    assert result.exit_code == 0, result.output
    assert [change[0] for change in database.changes] == [b"old", b"done"]
    assert run.changing == [True]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_a_policy_that_is_not_enforced_is_not_carried_out(
    mode: str, run: ScriptedTool, database: ScriptedDatabase
) -> None:
    """It is said, and the database is not even opened."""
    result = run("backfill", "--apply", policy=POLICY % mode)
    assert result.exit_code == 2
    assert f"has mode: {mode}, so --apply must not carry it out: set mode: enforce" in result.output
    assert (run.changing, database.changes) == ([], [])


def test_orphans_and_filters(run: ScriptedTool) -> None:
    """What is met is said in words."""
    result = run("backfill", "--orphans", "ttl", "--type", "x", "--show", "0", policy=POLICY % "enforce")
    assert result.exit_code == 0, result.output
    assert "1 orphans, 0 hashes without a message" in result.stderr
    assert "would change 2 tasks" in result.stdout


def test_a_type_that_no_task_has(run: ScriptedTool) -> None:
    """Is told with those that there are, before anything is done."""
    result = run("backfill", "--type", "z*", policy=POLICY % "enforce")
    assert result.exit_code == 1
    assert result.output == "--type z* matches no task here; there are x, y\n"


def test_the_journal_tells_what_was_asked_for(run: ScriptedTool, tmp_path: Path) -> None:
    """So that it can only be resumed by the same command."""
    journal = tmp_path / "journal"
    assert run("backfill", "--from-now", "--journal", journal, policy=POLICY % "enforce").exit_code == 0
    told = json.loads(journal.read_text().splitlines()[0])["run"]
    assert told == {
        "tool": "backfill",
        "upstream": "redis://127.0.0.1:6379/0",
        "policy": told["policy"],
        "apply": False,
        "orphans": "leave",
        "ghosts": "leave",
        "from_now": True,
        "queues": [],
        "types": [],
        "states": [],
    }
    assert run("backfill", "--resume", policy=POLICY % "enforce").exit_code == 2
