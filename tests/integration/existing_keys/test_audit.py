"""An audit counts what is there, names what is wrong, holds Redis up for no one, and goes on where it stopped."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from asynq_ttl.existing_keys.audit.problems import PROBLEMS
from support import filler
from support.asynq import Harness
from support.existing_keys import DAY, QUEUE, everything, now, put, tool, url
from support.prepared import launch
from support.servers import Server, start_redis, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: 2h}}]"


def report(server: Server, *options: str | Path, status: int) -> dict[str, Any]:
    """Run an audit and return its JSON."""
    result = tool("audit", "--upstream", url(server), "--json", *options)
    assert result.exit_code == status, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def problems(found: dict[str, Any]) -> dict[str, int]:
    """Return the findings of a report and their counts."""
    return {finding["code"]: finding["count"] for finding in found["findings"]}


def group(found: dict[str, Any], state: str, queue: str = "default") -> dict[str, Any]:
    """Return what a report says about a queue and a state."""
    groups: dict[tuple[str, str], dict[str, Any]] = {(one["queue"], one["state"]): one for one in found["groups"]}
    return groups[queue, state]


def sick(client: "Redis") -> None:
    """Put one of everything that can be wrong into Redis."""
    start = now(client)
    put(client, "old", "archived", start - 40 * DAY, lock=True)
    put(client, "done", "completed", start + 50, ttl=100, completed_at=start - 50, retention_seconds=100)
    put(client, "undated", "archived", start * 1_000_000_000)
    put(client, "orphan", "archived", None)
    put(client, "doomed", "retry", start + 50, ttl=100)
    for name in ("lost-pending", "lost-active"):
        put(client, name, name.removeprefix("lost-"), None)
    put(client, "lost-scheduled", "scheduled", None)
    put(client, "waiting", "pending", None)
    put(client, "running", "active", None)
    client.rpush(QUEUE + "pending", "waiting", "nobody")
    client.rpush(QUEUE + "active", "running", "nobody")
    client.zadd(QUEUE + "lease", {"running": start + 30, "nobody-else": start + 30})
    client.zadd(QUEUE + "scheduled", {"nobody": start})
    client.zadd(QUEUE + "archived", {"ghost": start, "waiting": start})
    client.hset(QUEUE + "t:half", "result", "late")
    client.hset(QUEUE + "t:garbage", mapping={"msg": b"\xff\xff", "state": "archived"})
    client.set(QUEUE + "t:text", "no hash")
    client.set("asynq:{forgotten}:processed", 7)
    client.zadd("asynq:scheduler_history:dead", {"x": 1})
    client.zadd("asynq:scheduler_history:alive", {"x": 1})
    client.zadd("asynq:schedulers", {"asynq:schedulers:{one}": start + 30})
    client.rpush("asynq:schedulers:{one}", b"\n\x05alive\x12\x09@every 1s\x1a\x01x")


def test_everything_that_can_be_wrong_is_found(server: Server) -> None:
    """Each problem is counted once for each time it is there; nothing is changed."""
    with server.client() as client:
        sick(client)
        before = everything(client)
        found = report(server, status=4)
        assert everything(client) == before
    expected = {
        code: 1 for code in PROBLEMS if code not in ("at-cap", "ambiguous", "unread", "moving", "untimed-history")
    }
    assert problems(found) == {
        **expected,
        "lost": 3,
        "waiting-gone": 2,
        "active-gone": 2,
        "untimed": 3,
    }
    assert found["severity"] == "danger"
    for finding in found["findings"]:
        assert all(finding[part] for part in ("what", "why", "advice", "examples")), finding


def test_a_healthy_database(server: Server, harness: Harness) -> None:
    """What real Asynq leaves while it works has nothing wrong with it but the missing TTLs."""
    address = f"127.0.0.1:{server.port}"
    harness.start("demo", address).communicate(timeout=60)
    worker = harness.serve(address, "-quiet", "-queues", "default,busy")
    harness.enqueue(address, *({"type": "x", "queue": "busy", "payload": '{"ms": 3000}'} for _ in range(30)))
    found = report(server, status=0)
    worker.kill()
    assert set(problems(found)) == {"untimed"}
    assert group(found, "scheduled")["tasks"] == 12
    assert group(found, "archived", "payments")["tasks"] == 24
    assert {state["state"] for state in found["groups"] if state["queue"] == "busy"} <= {"pending", "active"}


@pytest.mark.timeout(600)  # what fills it is built first
def test_the_leak_of_asynq_v0_24(tmp_path: Path) -> None:
    """Asynq v0.24.1 forgets the hashes of what its archive cannot hold: they are found, and removed, exactly."""
    with start_redis() as server, server.client() as client:
        filler.fill("v0.24.1", server.port, "-tasks", "12000", "-archive")
        found = report(server, status=3)
        assert problems(found) == {"orphan": 2001, "at-cap": 1, "untimed": 12000}
        archived = group(found, "archived")
        assert (archived["tasks"], archived["orphans"]) == (12000, 2001)
        keys: Any = client.keys(QUEUE + "t:*")
        real = sum(client.memory_usage(key, samples=0) or 0 for key in keys)
        assert archived["bytes"] == pytest.approx(real, abs=archived["bytes_error"] + real * 0.01)
        line = ("backfill", "--upstream", url(server), "--apply", "--orphans", "delete", "--show", "0")
        assert tool(*line, policy=POLICY, folder=tmp_path).exit_code == 0
        assert problems(report(server, status=3)) == {"at-cap": 1}
        assert len(client.keys(QUEUE + "t:*")) == client.zcard(QUEUE + "archived") == 9999


def test_the_page_and_the_table(server: Server, tmp_path: Path) -> None:
    """The HTML report stands alone and has the plots; names from Redis cannot break out of it or of the terminal."""
    with server.client() as client:
        start = now(client)
        put(client, "<script>", "archived", start - DAY, queue="<b>\x1b[31m")
        put(client, "done", "completed", start + DAY, completed_at=start - DAY, retention_seconds=2 * DAY)
        page = tmp_path / "report.html"
        result = tool("audit", "--upstream", url(server), "--html", page)
        assert result.exit_code == 0, result.output
    text = page.read_text()
    assert text.count("<svg") == 3
    assert "http" not in text
    assert "<script" not in text
    assert "<b>?[31m" not in text
    assert "&lt;b&gt;?[31m" in text
    assert "\x1b" not in result.output
    assert "<b>?[31m" in result.output


def test_an_audit_that_was_killed_goes_on(server: Server, tmp_path: Path) -> None:
    """From its checkpoint it comes to the counts of one that ran through; a file of another audit is not used."""
    with server.client() as client, client.pipeline() as pipeline:
        for number in range(3000):
            put(pipeline, f"task-{number}", "archived", number + 1)
        pipeline.execute()
    checkpoint = tmp_path / "checkpoint"
    line = ["audit", "--upstream", url(server), "--checkpoint", str(checkpoint), "--rate", "1500"]
    with (tmp_path / "told").open("wb") as told:
        process = launch(line, stdout=told, stderr=told, env=os.environ)
        wait_until(lambda: checkpoint.exists() or process.poll() is not None, "there is no checkpoint", 30)
        process.kill()
        process.wait()
    assert 0 < json.loads(checkpoint.read_text())["tally"]["keys"] < 3000
    found = report(server, "--checkpoint", checkpoint, status=0)
    assert not checkpoint.exists()
    assert group(found, "archived")["tasks"] >= 3000
    assert problems(found)["untimed"] == group(found, "archived")["tasks"]
    checkpoint.write_text('{"run": {"upstream": "other"}, "cursor": 5}')
    assert group(report(server, "--checkpoint", checkpoint, status=0), "archived")["tasks"] == 3000


def test_only_some_queues(server: Server) -> None:
    """With --queue nothing is said about the others."""
    with server.client() as client:
        put(client, "a", "archived", 5, queue="mail")
        put(client, "b", "archived", None, queue="sms")
        found = report(server, "--queue", "mail", status=0)
    assert [one["queue"] for one in found["groups"]] == ["mail"]
    assert problems(found) == {"untimed": 1, "undated": 1}
