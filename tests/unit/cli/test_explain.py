"""A policy, explained."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from asynq_ttl.cli.main import main

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
ASKED = ["explain", "--queue", "q", "--type", "t", "--state", "completed"]


def test_a_policy_is_explained(tmp_path: Path) -> None:
    """With the rule that decides."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY)
    result = CliRunner().invoke(main, [*ASKED, "--policy", str(file)])
    assert result.exit_code == 0
    assert "all" in result.output
    assert "2h" in result.output


def test_without_a_file_it_is_the_built_in_policy() -> None:
    """Which keeps tasks for as long as Asynq does."""
    result = CliRunner().invoke(main, ASKED)
    assert result.exit_code == 0
    assert "built-in" in result.output


@pytest.mark.parametrize(("text", "told"), [("rules: 5", "rules"), (None, "No such file")])
def test_a_file_that_cannot_be_used_is_told(tmp_path: Path, text: str | None, told: str) -> None:
    """It is a mistake of whoever wrote it."""
    file = tmp_path / "policy.yaml"
    if text is not None:
        file.write_text(text)
    result = CliRunner().invoke(main, [*ASKED, "--policy", str(file)])
    assert result.exit_code == 2
    assert told in result.output


def test_without_a_type_it_is_one_that_cannot_be_read() -> None:
    """As with a worker that writes messages of its own."""
    result = CliRunner().invoke(main, ["explain", "--queue", "q", "--state", "archived"])
    assert result.exit_code == 0
    assert "a type that cannot be read" in result.output
