"""`asynq-ttl doctor`: how it tells what it finds, and how it ends. What it finds: `existing_keys/doctor`."""

import json
from pathlib import Path

import pytest

from asynq_ttl.cli import doctor as command
from asynq_ttl.cli.admin_client import AdminClientError
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.net.address import Address
from asynq_ttl.policy.rules import Policy
from support.scripted_database import ScriptedDatabase, task_of
from support.scripted_tool import ScriptedTool


def finding(severity: Severity) -> Finding:
    """Return a finding."""
    return Finding("eviction", severity, "it may evict", "tasks are lost", "set noeviction")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ScriptedTool:
    """The command, on a database."""
    return ScriptedTool(ScriptedDatabase([task_of("pending")]), monkeypatch, tmp_path)


@pytest.mark.parametrize(
    ("severities", "status"),
    [
        ([], 0),
        ([Severity.FINE, Severity.NOTICE], 0),
        ([Severity.WARNING, Severity.FINE], 3),
        ([Severity.WARNING, Severity.DANGER], 4),
    ],
)
def test_the_status_is_that_of_the_worst_finding(
    severities: list[Severity], status: int, run: ScriptedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As text and as JSON; nothing is changed."""
    monkeypatch.setattr(command, "examine", lambda *_: [finding(severity) for severity in severities])
    text, told = run("doctor"), run("doctor", "--json")
    assert (text.exit_code, told.exit_code) == (status, status)
    assert text.stdout.count("do: set noeviction") == len(severities)
    assert len(json.loads(told.stdout)["findings"]) == len(severities)
    assert (run.changing, run.closed) == ([], 2)


def test_a_sidecar_is_asked_for_the_scripts_that_it_does_not_understand(
    run: ScriptedTool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its admin server is told; without an answer nothing is checked."""
    asked: list[str] = []

    def ask(admin: Address, call: str) -> dict[str, object]:
        asked.append(f"{admin} {call}")
        if admin.port == 2:
            raise AdminClientError("nobody answers")
        return {"scripts_not_understood": [{"script": "ab", "wrapped": "by effect", "first_line": "-- ours"}]}

    monkeypatch.setattr(command, "examine", lambda *_: [finding(Severity.WARNING)])
    monkeypatch.setattr(command, "ask", ask)
    told = json.loads(run("doctor", "--json", "--admin", "127.0.0.1:1").stdout)["findings"]
    assert [found["code"] for found in told] == ["eviction", "scripts"]
    assert told[1]["examples"] == ["ab (wrapped by effect): -- ours"]
    refused = run("doctor", "--admin", "127.0.0.1:2")
    assert (refused.exit_code, "nobody answers" in refused.stderr) == (1, True)
    assert asked == ["127.0.0.1:1 /api/status", "127.0.0.1:2 /api/status"]


def test_what_is_examined(run: ScriptedTool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queues there are, by the policy that is given, with as many tasks as may be looked at."""
    seen: list[tuple[str, list[str], int]] = []

    def examine(_database: Database, policy: Policy, queues: list[str], sample: int) -> list[Finding]:
        seen.append((policy.rules[0].name, queues, sample))
        return []

    monkeypatch.setattr(command, "examine", examine)
    policy = "version: 1\nrules: [{name: week, archived: {ttl: 7d}}]"
    assert run("doctor", "--sample", "7", policy=policy).exit_code == 0
    assert seen == [("week", ["q"], 7)]
    assert run("doctor", "--sample", "0").exit_code == 2
