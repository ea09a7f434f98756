from pathlib import Path

import pytest
from click.testing import CliRunner

from asynq_ttl.cli.main import main

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: %s}}]"


@pytest.mark.parametrize(("ttl", "status", "told"), [("1h", 0, "valid, 1 rules, mode enforce"), ("1", 2, "ttl")])
def test_a_policy_file_is_checked(tmp_path: Path, ttl: str, status: int, told: str) -> None:
    """The exit status says whether it is valid."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY % ttl)
    result = CliRunner().invoke(main, ["check", str(file)])
    assert result.exit_code == status
    assert told in result.output


def test_a_policy_is_explained(tmp_path: Path) -> None:
    """With the rule that decides."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY % "2h")
    asked = ["--queue", "q", "--type", "t", "--state", "completed"]
    result = CliRunner().invoke(main, ["explain", "--policy", str(file), *asked])
    assert result.exit_code == 0
    assert "all" in result.output


@pytest.mark.parametrize("name", ["tail", "report"])
def test_a_sidecar_that_is_not_there_is_told(name: str) -> None:
    """In one line, without a traceback."""
    result = CliRunner().invoke(main, [name, "--admin", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
