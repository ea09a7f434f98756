"""What a policy would do with the tasks that were seen."""

from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from asynq_ttl.cli.main import main
from asynq_ttl.cli.report import UNMATCHED, PolicyReport, compare, horizons, policy_in_force, tables
from asynq_ttl.policy_file.load import parse_policy

DAY = 86_400
ASKED = parse_policy(
    """
version: 1
mode: shadow
rules:
  - {name: mail, match: {queue: mail}, archived: {ttl: 1d}, completed: {ttl: forever}}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: unused, match: {queue: none}, archived: {ttl: 5d}}
""",
    "asked.yaml",
)
IN_FORCE = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 7d}}]", "old.yaml")


def kind(queue: str, task_type: str, state: str, own_seconds: int, *counts: int) -> dict[str, Any]:
    """Return a kind of task in a census."""
    named = {"queue": queue, "type": task_type, "state": state, "own_seconds": own_seconds}
    return named | dict(zip(("tasks", "size_bytes"), counts, strict=True))


CENSUS = {
    "kinds": [
        kind("mail", "email:send", "archived", 90 * DAY, 10, 1_000),
        kind("mail", "email:send", "completed", 3_600, 5, 500),
        kind("low", "ping:a", "archived", 90 * DAY, 3, 30),
        kind("low", "other", "archived", 90 * DAY, 2, 20),
        kind("low", "other", "completed", 100 * DAY, 1, 7),
    ],
    "others": {"tasks": 4, "size_bytes": 0},
}


def bytes_of(report: PolicyReport) -> tuple[dict[str, int], dict[str, int]]:
    """Return the bytes by when they are free, without zeros: under the policy, and in force."""
    told = report.as_json()
    asked, now = (
        {name: size for name, size in told[part].items() if size} for part in ("freed_bytes", "freed_bytes_in_force")
    )
    return asked, now


def test_beside_asynqs_own_times() -> None:
    """In shadow mode tasks are really kept for as long as Asynq keeps them."""
    report = compare(CENSUS, ASKED, policy_in_force(ASKED, "shadow"))
    assert {(line.rule, line.state): (line.kept, line.tasks, line.size_bytes) for line in report.lines} == {
        ("mail", "archived"): ("1d", 10, 1_000),
        ("mail", "completed"): ("forever", 5, 500),
        ("noise", "archived"): ("delete", 3, 30),
        ("unused", "archived"): ("5d", 0, 0),
        (UNMATCHED, "archived"): ("keep", 2, 20),
        (UNMATCHED, "completed"): ("keep", 1, 7),
    }
    assert bytes_of(report) == (
        {"at once": 30, "within 1d": 1_000, "within 90d": 20, "later": 7, "never": 500},
        {"within 1h": 500, "within 90d": 1_050, "later": 7},
    )
    assert (report.tasks, report.others) == (21, 4)
    by_rule = {(line.rule, line.state): line for line in report.lines}
    mail = by_rule["mail", "archived"]
    assert (mail.byte_seconds, mail.byte_seconds_in_force) == (1_000 * DAY, 1_000 * 90 * DAY)
    assert by_rule["mail", "completed"].byte_seconds is None


def test_beside_a_policy_in_force() -> None:
    """A candidate is compared with the policy that is enforced."""
    report = compare(CENSUS, ASKED, policy_in_force(IN_FORCE, "enforce"))
    assert bytes_of(report)[1] == {"within 1h": 500, "within 7d": 1_050, "later": 7}


def test_the_names_of_horizons() -> None:
    """From at once to never."""
    names = list(horizons())
    assert (names[0], names[1], names[-2], names[-1]) == ("at once", "within 1h", "later", "never")


@pytest.mark.parametrize("in_force", ["", "old.yaml"])
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
