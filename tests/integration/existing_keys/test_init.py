"""`init` writes a policy that is valid, changes nothing, and says what is there as an audit says it."""

import json
import re
import resource
from pathlib import Path

import pytest

from asynq_ttl.existing_keys.audit.plot import bytes_text
from asynq_ttl.policy.rules import TERMINAL, Keep, Mode
from asynq_ttl.policy_file.load import load_policy
from support.existing_keys import DAY, everything, now, put, tool, url
from support.servers import Server
from support.task_message import encode_task

ODD = ["*", "a?b", "[x]", "off", "1:30", "- x", 'say "hi"', "back\\slash", "# no", "tab\there", "snow\u2603", "x" * 300]


def test_it_says_what_an_audit_of_it_says(server: Server, tmp_path: Path) -> None:
    """Tasks, bytes and ages by queue and state, and the memory that ended tasks will take."""
    with server.client() as client:
        start = now(client)
        for number in range(40):
            kind = ("mail:a", "sms:a")[number % 2]
            put(client, f"dead-{number}", "archived", start - number * DAY, task_type=kind, payload=b"x" * number * 10)
            at, kept = start - number * 3600, 50 * DAY
            put(client, f"done-{number}", "completed", at + kept, queue="low", completed_at=at, retention_seconds=kept)
        put(client, "alive", "pending", None)
        before = everything(client)
        file = tmp_path / "policy.yaml"
        written = tool("init", "--upstream", url(server), "--output", file)
        assert (written.exit_code, written.output) == (0, f"written to {file}\n")
        assert everything(client) == before
        audited = json.loads(tool("audit", "--upstream", url(server), "--policy", file, "--json").stdout)
        text = file.read_text()
        for group in audited["groups"]:
            queue = text.partition(f'# Queue "{group["queue"]}":\n')[2].partition("- name")[0]
            assert f"{group['state']}: {group['tasks']} tasks, {bytes_text(group['bytes'])}" in queue
        ahead = audited["forecast"]
        assert f"take {bytes_text(ahead['own'][0])} today" in text
        assert f"{bytes_text(ahead['policy'][-1])} under this policy" in text
        policy = load_policy(file)
        assert policy.mode is Mode.SHADOW
        assert {rule.says(state).keep for rule in policy.rules for state in TERMINAL} == {Keep.OWN}  # type: ignore[union-attr]
        assert tool("check", file).exit_code == 0


def test_a_suggestion_frees_what_it_says(server: Server, tmp_path: Path) -> None:
    """As many tasks as a backfill under it would remove."""
    with server.client() as client:
        start = now(client)
        for number in range(40):
            kind = ("mail:*", "sms:a")[number % 2]
            put(client, f"dead-{number}", "archived", start - number * DAY - 60, task_type=kind)
        assert tool("hold", "default", "dead-39", "--upstream", url(server)).exit_code == 0
        text = tool("init", "--upstream", url(server)).stdout
        told = re.findall(r"^  #   (archived: \{ttl: \w+\}) +# would free (\d+) tasks", text, re.MULTILINE)
        told += re.findall(
            r"^  # - \{name: .*?, (match: .*\{ttl: \w+\})\} +# would free (\d+) tasks", text, re.MULTILINE
        )
        assert len(told) == 3 + 2
        for suggestion, tasks in told:
            policy = f"version: 1\nrules:\n  - {{name: a, {suggestion}}}\n"
            journal = tmp_path / f"journal-{suggestion.__hash__()}"
            line = ("backfill", "--upstream", url(server), "--journal", journal)
            assert tool(*line, policy=policy, folder=tmp_path).exit_code == 0
            assert journal.read_text().count('"action": "remove"') == int(tasks)


@pytest.mark.parametrize("kind", ["queue", "type"])
def test_odd_names_stand_for_themselves(server: Server, tmp_path: Path, kind: str) -> None:
    """Whatever YAML or a glob makes of their characters; what no glob can name is told, and left to the last rule."""
    with server.client() as client:
        start = now(client)
        for number, name in enumerate(ODD):
            queue, task_type = (name, "x") if kind == "queue" else (f"q{number}", name)
            put(client, f"dead-{number}", "archived", start - 3 * DAY, task_type=task_type, queue=queue)
        client.sadd("asynq:queues", b"a\xff")
        client.hset(b"asynq:{a\xff}:t:x", mapping={"msg": encode_task("\x00\x01\x7f"), "state": "archived"})
        client.zadd(b"asynq:{a\xff}:archived", {"x": start - 2 * DAY})
        file = tmp_path / "policy.yaml"
        written = tool("init", "--upstream", url(server), "--output", file)
        assert written.exit_code == 0, written.output
        assert tool("check", file).exit_code == 0
        text = file.read_text()
        if kind == "queue":
            rules = {rule.name: rule for rule in load_policy(file).rules}
            named = [name for name in ODD if len(name) < 200 and "\t" not in name]
            for name in named:
                (rule,) = [rule for rule in rules.values() if any(glob.matches(name) for glob in rule.queues)]
                assert [other for other in ODD if any(glob.matches(other) for glob in rule.queues)] == [name]
            assert text.count("No rule can name this queue") == len(ODD) - len(named) + 1
        suggestions = re.findall(r"^  # (- \{.*\})    # would", text, re.MULTILINE)
        file.write_text("version: 1\nrules:\n" + "".join(f"  {line}\n" for line in suggestions))
        assert tool("check", file).exit_code == 0
        if kind == "type":
            assert len(suggestions) == len(ODD) - 2
            for rule in load_policy(file).rules:
                assert len([name for name in ODD if any(glob.matches(name) for glob in rule.types)]) == 1


def test_no_file_is_written_over(server: Server, tmp_path: Path) -> None:
    """One line, and the file stays."""
    with server.client() as client:
        put(client, "a", "archived", now(client))
    file = tmp_path / "policy.yaml"
    file.write_text("mine")
    result = tool("init", "--upstream", url(server), "--output", file)
    assert (result.exit_code, result.output) == (1, f"{file} is there already: name another file\n")
    assert file.read_text() == "mine"
    result = tool("init", "--upstream", url(server), "--output", tmp_path / "none" / "policy.yaml")
    assert (result.exit_code, len(result.output.splitlines())) == (1, 1)


def test_a_full_disk_leaves_no_half_policy(server: Server, tmp_path: Path) -> None:
    """It is told, and the same name can be used again."""
    with server.client() as client:
        for number in range(20):
            put(client, f"a{number}", "archived", now(client), queue=f"q{number}")
    file = tmp_path / "policy.yaml"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        result = tool("init", "--upstream", url(server), "--output", file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (result.exit_code, result.output) == (1, f"{file}: File too large\n")
    assert not file.exists()
