"""`asynq-ttl why`: whom it asks, how it answers, and how it ends. What it says: `existing_keys/why`."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asynq_ttl.cli import admin_client
from asynq_ttl.cli import why as command
from asynq_ttl.cli.admin_client import AdminClientError
from asynq_ttl.cli.main import main
from asynq_ttl.existing_keys.why.look import Look, not_looked
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.entries import entries_of
from support.imports import telling
from support.recorded import outcome, swept
from support.scripted_database import NOW, task_of
from support.whereabouts import where

POLICY = "version: 1\nrules:\n  - {name: mine, archived: {ttl: 1h}}\n"
NOTHING = Look((), NOW, ("Redis was asked.",), whole=True)


class _Redis:
    """Takes the place of Redis, and notes what it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer = NOTHING
        self.asked: list[tuple[str, bytes]] = []
        monkeypatch.setattr(command, "look", self._look)

    def _look(self, _upstream: object, queue: str, task_id: bytes) -> Look:
        self.asked.append((queue, task_id))
        return self.answer


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> _Redis:
    """A Redis that has nothing, unless it is told otherwise."""
    return _Redis(monkeypatch)


def why(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["why", *map(str, arguments)])


def log_of(path: Path, *records: Any) -> Path:
    """Write a decision log."""
    entries = [entry for record in records for entry in entries_of(record, "", task_ids=True)]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def test_a_task_that_is_there(redis: _Redis, tmp_path: Path) -> None:
    """In sentences and as JSON, by the policy that is given."""
    redis.answer = Look((where(task_of("archived", score=NOW)),), NOW, (), whole=True)
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    text = why("a", "--policy", policy, "--queue", "q")
    assert text.exit_code == 0
    assert "Now rule mine decides: kept for 1h." in text.stdout
    told = json.loads(why("a", "--policy", policy, "--json").stdout)
    assert told["tasks"][0]["rules_now"]["archived"]["rule"] == "mine"
    assert redis.asked == [("q", b"a"), ("", b"a")]


def test_a_task_of_which_nothing_is_known(redis: _Redis) -> None:
    """Has a status of its own."""
    result = why("a")
    assert result.exit_code == command.UNKNOWN == 3
    assert result.stdout.startswith("Nothing is known of task a.")
    assert redis.asked == [("", b"a")]


def test_what_the_log_says(redis: _Redis, tmp_path: Path) -> None:
    """Of a task that is gone."""
    result = why("id-1", "--decisions", log_of(tmp_path / "log", outcome(), swept("id-1")))
    assert result.exit_code == 0
    assert "Rule default had decided how long it is kept." in result.stdout
    assert redis.asked


def test_a_log_that_cannot_be_read(redis: _Redis, tmp_path: Path) -> None:
    """The rest is answered, and the status says that this is not all."""
    redis.answer = Look((where(task_of("archived", score=NOW)),), NOW, (), whole=True)
    result = why("a", "--decisions", tmp_path / "missing")
    assert result.exit_code == 1
    assert "Task a is archived" in result.stdout
    assert f"The decision log {tmp_path}/missing cannot be read: No such file or directory." in result.stdout


def test_redis_that_cannot_be_asked(redis: _Redis, tmp_path: Path) -> None:
    """The log is asked all the same; whether the task has come back since then nobody knows."""
    redis.answer = not_looked("Redis could not be asked: it is down.")
    result = why("id-1", "--decisions", log_of(tmp_path / "log", outcome(), swept("id-1")))
    assert result.exit_code == 1
    assert "The sweeper of a sidecar removed it at " in result.stdout
    assert "is gone" not in result.stdout
    assert "it is down" in result.stdout


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"text": POLICY, "mode_in_force": "enforce", "hands_over": False}, "Now rule mine decides: kept for 1h."),
        ({"text": POLICY, "mode_in_force": "enforce", "hands_over": True}, "after the sink has taken it"),
        (
            {"text": POLICY, "mode_in_force": "shadow", "hands_over": False},
            "mode shadow: nothing of that is carried out",
        ),
        (
            {"text": "", "mode_in_force": "enforce", "hands_over": False},
            "Now rule built-in decides: kept for Asynq's own time",
        ),
    ],
)
def test_what_a_sidecar_says(redis: _Redis, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any], said: str) -> None:
    """Its journal, its log, and the policy by which it decides at this moment."""
    redis.answer = Look((where(task_of("archived", score=NOW, ttl_ms=9_000)),), NOW, (), whole=True)
    calls = []

    def ask(admin: Address, call: str) -> dict[str, Any]:
        calls.append(f"{admin} {call}")
        if call == "/api/policy":
            return {"source": "policy.yaml", **policy}
        return {"events": list(entries_of(outcome(), "", task_ids=True)), "notes": ["Asked."], "whole": True}

    monkeypatch.setattr(admin_client, "ask", ask)
    result = why("a b", "--queue", "q&", "--admin", "127.0.0.1:1")
    assert result.exit_code == 0, result.output
    assert said in result.stdout
    assert "Then decided: rule default." in result.stdout
    assert calls == ["127.0.0.1:1 /api/task?redis=no&id=a%20b&queue=q%26", "127.0.0.1:1 /api/policy"]


def test_a_sidecar_that_cannot_be_asked(redis: _Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named, and Redis is asked all the same."""

    def ask(_admin: Address, _call: str) -> dict[str, Any]:
        raise AdminClientError("nobody answers")

    monkeypatch.setattr(admin_client, "ask", ask)
    result = why("a", "--admin", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "The sidecar could not be asked: nobody answers." in result.stdout
    assert redis.asked


def test_nobody_waits_for_what_is_not_asked() -> None:
    """Neither for HTTP nor for YAML where no sidecar and no policy is named, nor for what draws tables."""
    program = telling("why", "a", "--upstream", "redis://127.0.0.1:1/0", main="asynq_ttl.cli.main")
    told = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    loaded = set(told.splitlines()[-1].split())
    assert "redis" in loaded
    assert not {"yaml", "http.client", "rich", "google.protobuf", "aiohttp"} & loaded


def test_a_question_ends_a_sentence(redis: _Redis) -> None:
    """What is said of a sidecar that is not there asks whether one runs."""
    result = why("a", "--admin", "127.0.0.1:1")
    assert redis.asked
    assert "does a sidecar run with --admin 127.0.0.1:1?\n" in result.stdout


def test_ids_that_cannot_be_typed(redis: _Redis) -> None:
    """In base64, or as bytes that are not UTF-8; what begins with a hyphen stands behind two."""
    why("--base64", "YQD/")
    why("a\udcff")
    why("--", "-a")
    assert [task_id for _, task_id in redis.asked] == [b"a\x00\xff", b"a\xff", b"-a"]


@pytest.mark.parametrize("arguments", [[""], ["--base64", "%"], ["--base64", ""], [], ["a", "b"]])
def test_what_is_asked_wrongly(redis: _Redis, arguments: list[str]) -> None:
    """Nobody is asked then."""
    result = why(*arguments)
    assert result.exit_code == 2
    assert not redis.asked


def test_a_policy_with_faults_is_refused(redis: _Redis, tmp_path: Path) -> None:
    """Before anybody is asked."""
    (tmp_path / "policy.yaml").write_text("version: 2")
    assert why("a", "--policy", tmp_path / "policy.yaml").exit_code == 2
    assert not redis.asked
