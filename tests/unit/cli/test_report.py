"""What the report shows a person."""

import pytest
from click.testing import CliRunner
from rich.console import Console

from asynq_ttl.cli.main import main
from asynq_ttl.cli.report import tables
from asynq_ttl.policy.what_if import compare
from support.counted_tasks import ASKED, CENSUS, IN_FORCE


@pytest.mark.parametrize("in_force", ["", "old.yaml", "[/old].yaml"])
def test_the_report_for_people(in_force: str) -> None:
    """Rules that never decide stand out, and what is not known is said."""
    report = compare(CENSUS, ASKED, IN_FORCE if in_force else None)
    console = Console(width=200)
    with console.capture() as shown:
        for part in tables(report, ASKED, in_force, "2026-11-25T10:00:00Z"):
            console.print(part)
    text = shown.get()
    assert (in_force or "Asynq's own times") in text
    assert "unused" in text
    assert "none" in text
    assert "for ever" in text
    assert "4 more tasks were archived in bulk" in text


def test_a_sidecar_that_is_not_there_is_told() -> None:
    """In one line, without a traceback."""
    result = CliRunner().invoke(main, ["report", "--admin", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.output
