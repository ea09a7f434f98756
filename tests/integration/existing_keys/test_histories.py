"""Histories of scheduler entries: `audit` counts them, `backfill` gives them TTLs, `persist` takes these off."""

import json
from pathlib import Path

import pytest
import redis

from support.existing_keys import everything, journal_lines, now, put, tool, url
from support.servers import Server

DAY = 86_400
PREFIX = "asynq:scheduler_history:"
POLICY = "version: 1\nscheduler_history: 30d\nrules: [{name: all, archived: {ttl: 7d}}]\n"


def fill(client: redis.Redis) -> int:
    """Write histories of several ages, and a task; return the time."""
    start = now(client)
    put(client, "task", "archived", start)
    for name, days in (("young", 1), ("old", 31)):
        client.zadd(PREFIX + name, {"first": start - 90 * DAY, "last": start - days * DAY})
    client.zadd(f"{PREFIX}timed", {"last": start - DAY})
    client.expire(f"{PREFIX}timed", 500)
    return start


def test_what_the_policy_says(server: Server, tmp_path: Path) -> None:
    """From when was added to each last. What has a TTL already, and what a dry run tells of, stays as it is."""
    with server.client() as client:
        fill(client)
        before = everything(client)
        options = ("--upstream", url(server), "--state", "scheduler_history")
        dry = tool("backfill", *options, policy=POLICY, folder=tmp_path)
        assert dry.exit_code == 0, dry.output
        assert "Dry run: --apply would change 2 histories" in dry.output
        assert "3 histories of scheduler entries, 1 of which have a TTL already" in dry.output
        assert everything(client) == before
        done = tool("backfill", *options, "--apply", "--journal", tmp_path / "j", policy=POLICY, folder=tmp_path)
        assert done.exit_code == 0, done.output
        changes = {line["id"]: line["action"] for line in journal_lines(tmp_path / "j")}
        assert changes == {"young": "ttl", "old": "remove"}
        assert not client.exists(f"{PREFIX}old")
        assert abs(client.ttl(f"{PREFIX}young") - 29 * DAY) < 60
        assert client.ttl(f"{PREFIX}timed") <= 500
        assert client.ttl("asynq:{default}:t:task") == -1
        again = tool("backfill", *options, "--apply", policy=POLICY, folder=tmp_path)
        assert "Nothing to change" in again.output


@pytest.mark.parametrize(("options", "of_task"), [((), -1), (("--state", "scheduler_history"), 100)])
def test_the_way_back(server: Server, options: tuple[str, ...], of_task: int) -> None:
    """TTLs of histories come off with all others, or alone."""
    with server.client() as client:
        fill(client)
        client.expire("asynq:{default}:t:task", 100)
        result = tool("persist", "--upstream", url(server), "--apply", *options)
        assert result.exit_code == 0, result.output
        assert client.ttl(f"{PREFIX}timed") == -1
        assert (client.ttl("asynq:{default}:t:task") > 0) == (of_task > 0)


def test_a_history_that_was_added_to_meanwhile_is_looked_at_anew(server: Server, tmp_path: Path) -> None:
    """What a run that was killed had decided about another state of it is not done."""
    with server.client() as client:
        fill(client)
        whole = ("backfill", "--upstream", url(server), "--apply", "--journal", tmp_path / "j")
        tool(*whole, policy=POLICY, folder=tmp_path)
        # As it is when the run is killed just before it makes the page; meanwhile the scheduler comes back.
        first, *lines = (tmp_path / "j").read_text().splitlines()
        (tmp_path / "j").write_text(first + "\n")
        page = next(line for line in map(json.loads, lines) if line.get("id") == "young")
        page.pop("page")
        missing = {"queue": "", "type": "", "state": "", "new_score": "", "digest": "", "size": 0}
        content = {"page": 1, "position": ["scheduler_history", 0], "changes": [missing | page], "servers": ""}
        (tmp_path / "j.page").write_text(json.dumps(content))
        client.persist(f"{PREFIX}young")
        client.zadd(f"{PREFIX}young", {"new": now(client) - 5})
        again = tool(*whole, "--resume", policy=POLICY, folder=tmp_path)
        assert again.exit_code == 0, again.output
        assert client.ttl(f"{PREFIX}young") > 30 * DAY - 60


def test_an_audit_counts_them(server: Server, tmp_path: Path) -> None:
    """And says which of them are to have a TTL."""
    with server.client() as client:
        fill(client)
        client.set(f"{PREFIX}odd", "no history")
        result = tool("audit", "--upstream", url(server), "--json", policy=POLICY, folder=tmp_path)
        told = json.loads(result.stdout)
        assert told["scheduler_histories"] == {"keys": 3, "with_ttl": 1}
        found = {finding["code"]: finding for finding in told["findings"]}
        assert found["untimed-history"]["count"] == 2
        assert found["wrong-type"]["examples"] == [f"{PREFIX}odd"]
        assert "3 histories of scheduler entries, 1 with a TTL" in tool("audit", "--upstream", url(server)).output
