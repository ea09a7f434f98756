"""`asynq-ttl hold`: what is asked for becomes what is done."""

from pathlib import Path
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from support.scripted_database import ScriptedDatabase
from support.scripted_holds import record
from support.scripted_tool import ScriptedTool


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What was asked for."""
    return record(monkeypatch, "hold")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on a database."""
    return ScriptedTool(ScriptedDatabase([Task("q", b"a", "archived")]), monkeypatch, tmp_path)


def test_all_tasks_that_are_named(run: ScriptedTool, asked: list[tuple[Any, ...]]) -> None:
    """With the rights to change them."""
    result = run("hold", "q", "a", "c")
    assert (result.exit_code, result.output) == (0, "a  done\nc  done\n")
    assert asked[0][:2] == ("q", (b"a", b"c"))
    assert run.changing == [True]
    assert run("hold", "q", "a", "b").exit_code == 1


@pytest.mark.parametrize("names", [(), ("q",), ("q", ""), ("", "a"), ("a}:t:b", "a")])
def test_what_names_no_task_is_refused(run: ScriptedTool, asked: list[tuple[Any, ...]], names: tuple[str, ...]) -> None:
    """Before anything is asked."""
    assert run("hold", *names).exit_code == 2
    assert (asked, run.changing) == ([], [])
