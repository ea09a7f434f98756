"""`asynq-ttl init`: where the policy goes."""

from pathlib import Path

import pytest

from asynq_ttl.policy_file.load import load_policy, parse_policy
from support.scripted_database import NOW, ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on a database."""
    return ScriptedTool(ScriptedDatabase([task_of("archived", score=NOW)]), monkeypatch, tmp_path)


def test_it_goes_to_standard_output_or_into_a_new_file(run: ScriptedTool, tmp_path: Path) -> None:
    """The same text; no right to change anything is needed."""
    printed = run("init")
    assert printed.exit_code == 0
    assert [rule.name for rule in parse_policy(printed.stdout, "test").rules] == ["q", "default"]
    written = run("init", "--output", tmp_path / "policy")
    assert (written.stdout, written.stderr) == ("", f"written to {tmp_path}/policy\n")
    assert load_policy(tmp_path / "policy").text.splitlines()[1:] == printed.stdout.splitlines()[1:]
    assert run.changing == [False, False]


def test_what_could_not_be_read_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the policy and beside it, and the status tells; what the others have is written all the same."""
    database = ScriptedDatabase([task_of("archived", score=NOW)])
    database.left_out.add_unread("node a:1: gone")
    result = ScriptedTool(database, monkeypatch, tmp_path)("init", "--output", tmp_path / "policy")
    said = "not in this: nodes of the cluster that cannot be read: node a:1: gone"
    assert (result.exit_code, result.stderr) == (1, f"written to {tmp_path}/policy\n{said}\n")
    assert f"# {said}\n" in load_policy(tmp_path / "policy").text


def test_a_file_that_is_there_stays(run: ScriptedTool, tmp_path: Path) -> None:
    """Nothing is asked of Redis then."""
    (tmp_path / "policy").write_text("mine")
    result = run("init", "--output", tmp_path / "policy")
    assert (result.exit_code, result.output) == (1, f"{tmp_path}/policy is there already: name another file\n")
    assert run.changing == []
    nowhere = run("init", "--output", tmp_path / "none" / "policy")
    assert (nowhere.exit_code, nowhere.output) == (1, f"{tmp_path}/none/policy: No such file or directory\n")
