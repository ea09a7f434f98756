"""How a command is given a policy."""

from pathlib import Path

import pytest

from asynq_ttl.cli.policy_option import load
from asynq_ttl.policy.rules import DEFAULT_POLICY
from support.imports import imported_by
from support.policy_text import VALID


def test_a_policy_is_loaded_or_ends_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without one it is the built-in policy; its faults have a line each."""
    assert load(None) is DEFAULT_POLICY
    file = tmp_path / "policy.yaml"
    file.write_text("version: 1\nmode: loud\nrules: 5\n")
    with pytest.raises(SystemExit) as ended:
        load(file)
    assert ended.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


@pytest.mark.parametrize("arguments", [("check",), ("explain", "--queue", "q", "--state", "archived", "--policy")])
def test_a_policy_alone_needs_no_database(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """Nor an event loop, telemetry or tables: a check of a policy file has ended before these are imported."""
    file = tmp_path / "policy.yaml"
    file.write_text(VALID)
    loaded = imported_by(*arguments, str(file))
    assert "yaml" in loaded
    assert not {"redis", "opentelemetry", "asyncio", "rich", "google.protobuf"} & loaded
