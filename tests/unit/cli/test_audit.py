"""`asynq-ttl audit`: what it writes where, and how it ends. What it finds: `existing_keys/audit`."""

import json
from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.cli import audit as command
from asynq_ttl.existing_keys.audit.checkpoint import Checkpoint
from asynq_ttl.policy.rules import DEFAULT_POLICY
from support.scripted_database import NOW, ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool

FINE = [task_of("archived", name="a", score=NOW - 5, ttl_ms=1000)]


@pytest.fixture
def database() -> ScriptedDatabase:
    """A database."""
    return ScriptedDatabase(FINE)


@pytest.fixture
def run(database: ScriptedDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on that database."""
    monkeypatch.setattr(database, "llen", lambda key: len(database.lists.get(key, ())), raising=False)
    return ScriptedTool(database, monkeypatch, tmp_path)


def test_the_report_is_a_table_or_json(run: ScriptedTool) -> None:
    """Of the same numbers; nothing is changed."""
    assert "archived" in run("audit").stdout
    told = json.loads(run("audit", "--json").stdout)
    assert told["upstream"] == "redis://127.0.0.1:6379/0"
    assert (told["server"], told["groups"][0]["tasks"]) == ("Redis 7.2.0", 1)
    assert run.changing == [False, False]


def test_the_status_is_that_of_the_worst_finding(run: ScriptedTool, database: ScriptedDatabase) -> None:
    """For a cron job, which reads nothing else."""
    assert run("audit").exit_code == 0
    database.indexes[b"asynq:{q}:archived"].append((NOW, b"gone"))
    result = run("audit", "--json")
    assert [found["code"] for found in json.loads(result.stdout)["findings"]] == ["ghost"]
    assert result.exit_code == 3


def test_a_page_is_written_besides(run: ScriptedTool, tmp_path: Path) -> None:
    """The table stays on standard output, and a note says where the page is."""
    page = tmp_path / "page.html"
    result = run("audit", "--html", page)
    assert "<svg" in page.read_text()
    assert result.stderr == f"written to {page}\n"
    assert "archived" in result.stdout


def test_a_page_that_cannot_be_written_is_told_before_the_walk(run: ScriptedTool, tmp_path: Path) -> None:
    """A walk can take hours."""
    result = run("audit", "--html", tmp_path / "absent" / "page.html")
    assert result.exit_code == 1
    assert "No such file or directory" in result.output
    assert run.changing == []


def test_an_interrupted_audit_is_continued_by_the_same_command_alone(
    run: ScriptedTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its checkpoint tells of which run of which server it is, of the policy and of the queues."""
    seen: list[tuple[Path | None, dict[str, Any]]] = []

    class Noted(Checkpoint):
        """A checkpoint that says what it is made of."""

        def __init__(self, path: Path | None, told: dict[str, Any]) -> None:
            super().__init__(path, told)
            seen.append((path, told))

    monkeypatch.setattr(command, "Checkpoint", Noted)
    checkpoint = tmp_path / "checkpoint"
    assert run("audit", "--checkpoint", checkpoint, "--queue", "q*").exit_code == 0
    told = {
        "upstream": "redis://127.0.0.1:6379/0",
        "server": "run-1",
        "policy": DEFAULT_POLICY.digest or DEFAULT_POLICY.source,
        "queues": ["q*"],
    }
    assert seen == [(checkpoint, told)]


def test_only_some_queues(run: ScriptedTool) -> None:
    """A glob that matches none is told."""
    assert run("audit", "--queue", "q").exit_code == 0
    result = run("audit", "--queue", "z")
    assert (result.exit_code, result.output) == (1, "--queue z matches no queue; there are q\n")
