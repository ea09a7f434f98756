"""Whether a policy file is valid."""

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


def test_how_long_histories_live_is_told(tmp_path: Path) -> None:
    """Where the policy says something about them."""
    file = tmp_path / "policy.yaml"
    file.write_text(POLICY % "1h" + "\nscheduler_history: 720h\n")
    assert CliRunner().invoke(main, ["check", str(file)]).output.endswith("mode enforce, scheduler histories 30d\n")
