"""Tasks that came before the sidecar get the TTL it would have given them; nothing else is touched."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from asynq_ttl.asynq.message import decode_record
from asynq_ttl.policy.rules import FOREVER_SCORE, OWN_ARCHIVE_SECONDS
from support.asynq import Harness
from support.existing_keys import (
    DAY,
    QUEUE,
    everything,
    journal_lines,
    members,
    now,
    put,
    run_and_kill,
    tasks,
    tool,
    ttl,
    url,
)
from support.servers import Server, SidecarFactory

GRACE = 60
POLICY = """
version: 1
grace: 60s
rules:
  - {name: precious, match: {type: "precious:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: noise, match: {type: "noise:*"}, archived: {ttl: delete}, completed: {ttl: delete}}
  - {name: all, archived: {ttl: 7d}, completed: {ttl: 2h}}
"""


def test_a_task_gets_what_the_sidecar_would_have_given_it(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """The same work past the sidecar, then a backfill, ends in the same TTLs and scores as through the sidecar."""
    work = (
        {"id": "dead", "type": "x", "payload": '{"do": "skip"}'},
        {"id": "precious", "type": "precious:x", "payload": '{"do": "skip"}'},
        {"id": "noise", "type": "noise:x", "payload": '{"do": "skip"}'},
        {"id": "done", "type": "x", "retention": "30m"},
        {"id": "kept", "type": "precious:x", "retention": "30m"},
    )
    sidecar = start_sidecar(url(server, 1), POLICY)
    harness.enqueue(f"127.0.0.1:{server.port}", *work)
    harness.work(f"127.0.0.1:{server.port}")
    harness.enqueue(sidecar.address, *work, database=1)
    harness.work(sidecar.address, database=1)
    done = tool("backfill", "--upstream", url(server), "--apply", policy=POLICY, folder=tmp_path)
    assert done.exit_code == 0, done.output
    with server.client() as past, server.client(1) as through:
        assert tasks(past) == tasks(through) == {"dead", "precious", "done", "kept"}
        for index in ("archived", "completed"):
            assert members(past, index) == members(through, index)
            for name in members(past, index):
                assert since_its_end(past, name, index) == pytest.approx(since_its_end(through, name, index), abs=10)


def since_its_end(client: Redis, name: str, index: str) -> tuple[float, float]:
    """Return a task's score in an index, and the time its key expires, in seconds since the task itself ended.

    So it does not matter how long after another it was worked on. A time that never comes is -1.
    """
    with client.pipeline() as pipe:
        pipe.time()
        pipe.pttl(f"{QUEUE}t:{name}")
        pipe.hget(f"{QUEUE}t:{name}", "msg")
        pipe.zscore(QUEUE + index, name)
        (seconds, micros), left_ms, message, score = pipe.execute()
    record = decode_record(message)
    ended = record.completed_at or record.last_failed_at
    expires = seconds + micros / 1e6 + left_ms / 1e3 - ended if left_ms >= 0 else -1
    return (score - ended if score < FOREVER_SCORE else -1), expires


def test_time_that_has_passed_counts(server: Server, tmp_path: Path) -> None:
    """TTLs count from when a task died or completed; what is due goes with its entry and its lock."""
    with server.client() as client:
        start = now(client)
        put(client, "young", "archived", start - DAY)
        put(client, "due", "archived", start - 8 * DAY, lock=True)
        put(client, "done", "completed", start - 1800 + 3600, retention_seconds=3600, completed_at=start - 1800)
        put(client, "done-long-ago", "completed", start + 100, retention_seconds=10_900, completed_at=start - 10_800)
        put(client, "timed", "archived", start - 8 * DAY, ttl=500)
        put(client, "held", "archived", start, task_type="precious:a", ttl=500)
        put(client, "alive", "pending", None)
        result = tool("backfill", "--upstream", url(server), "--apply", policy=POLICY, folder=tmp_path)
        assert result.exit_code == 0, result.output
        assert tasks(client) == {"young", "done", "timed", "held", "alive"}
        assert members(client, "archived") == {"young", "timed", "held"}
        assert members(client, "completed") == {"done"}
        assert not client.exists(QUEUE + "unique:due")
        assert ttl(client, "young") == pytest.approx(6 * DAY + GRACE, abs=3)
        assert ttl(client, "done") == pytest.approx(5400 + GRACE, abs=3)
        assert client.zscore(QUEUE + "completed", "done") == start - 1800 + 7200
        assert ttl(client, "timed") == pytest.approx(500, abs=3)
        assert (ttl(client, "held"), ttl(client, "alive")) == (-1, -1)


def test_from_now(server: Server, tmp_path: Path) -> None:
    """Counted from now nothing is due, and the scores say so, since every trim goes by them."""
    with server.client() as client:
        start = now(client)
        put(client, "old", "archived", start - 80 * DAY)
        put(client, "done", "completed", start - DAY, retention_seconds=60, completed_at=start - DAY - 60)
        put(client, "kept", "completed", start + 5, task_type="precious:b", retention_seconds=60, completed_at=start)
        line = ("backfill", "--upstream", url(server), "--apply", "--from-now")
        assert tool(*line, policy=POLICY, folder=tmp_path).exit_code == 0
        assert ttl(client, "old") == pytest.approx(7 * DAY + GRACE, abs=3)
        assert client.zscore(QUEUE + "archived", "old") == pytest.approx(start, abs=3)
        assert ttl(client, "done") == pytest.approx(7200 + GRACE, abs=3)
        assert client.zscore(QUEUE + "completed", "done") == pytest.approx(start + 7200, abs=3)
        assert client.zscore(QUEUE + "completed", "kept") == FOREVER_SCORE
        before = everything(client)
        again = tool(*line, policy=POLICY, folder=tmp_path)
        assert "Nothing to change" in again.output
        assert everything(client) == before


def test_without_a_policy_asynq_s_own_times_hold(server: Server) -> None:
    """The built-in policy keeps every task for as long as Asynq does, and no key can leak."""
    with server.client() as client:
        start = now(client)
        put(client, "dead", "archived", start - 10 * DAY)
        put(client, "done", "completed", start + 600, retention_seconds=600, completed_at=start)
        assert tool("backfill", "--upstream", url(server), "--apply").exit_code == 0
        assert ttl(client, "dead") == pytest.approx(OWN_ARCHIVE_SECONDS - 10 * DAY + GRACE, abs=3)
        assert ttl(client, "done") == pytest.approx(600 + GRACE, abs=3)


@pytest.mark.parametrize(
    ("orphans", "stay"),
    [
        ("leave", {"due", "young", "precious", "half", "nameless", "running"}),
        ("ttl", {"young", "precious", "half", "nameless", "running"}),
        ("delete", {"precious", "running"}),
    ],
)
def test_orphans_are_handled_as_told(server: Server, tmp_path: Path, orphans: str, stay: set[str]) -> None:
    """Terminal tasks in no index stay, get their TTL or go; those kept for ever, and results being written, stay."""
    with server.client() as client:
        start = now(client)
        put(client, "due", "archived", None, last_failed_at=start - 9 * DAY, lock=True)
        put(client, "young", "completed", None, completed_at=start - 60, retention_seconds=60)
        put(client, "precious", "archived", None, task_type="precious:c")
        client.hset(QUEUE + "t:half", "state", "archived")
        client.hset(QUEUE + "t:nameless", "result", "late")
        client.hset(QUEUE + "t:running", "result", "late")
        client.zadd(QUEUE + "lease", {"running": start + 30})
        line = ("backfill", "--upstream", url(server), "--apply", "--orphans", orphans)
        assert tool(*line, policy=POLICY, folder=tmp_path).exit_code == 0
        assert tasks(client) == stay
        expected = 7200 - 60 + GRACE if orphans == "ttl" else -1 if orphans == "leave" else -2
        assert ttl(client, "young") == pytest.approx(expected, abs=3)
        assert client.exists(QUEUE + "unique:due") == (orphans == "leave")


def test_ghosts_are_handled_as_told(server: Server, tmp_path: Path) -> None:
    """Entries without their task are left, or dropped; a live task with the same ID is not touched either way."""
    with server.client() as client:
        put(client, "real", "archived", now(client))
        put(client, "alive", "pending", None)
        client.zadd(QUEUE + "archived", {"gone": 5, "alive": 6, "half": 7})
        client.zadd(QUEUE + "completed", {"gone": 5, "alive": 6})
        client.hset(QUEUE + "t:half", "state", "archived")
        line = ("backfill", "--upstream", url(server), "--apply")
        left = tool(*line, policy=POLICY, folder=tmp_path)
        assert members(client, "archived") == {"real", "gone", "alive", "half"}
        assert "5 ghosts left" in left.output
        assert tool(*line, "--ghosts", "drop", policy=POLICY, folder=tmp_path).exit_code == 0
        assert (members(client, "archived"), members(client, "completed")) == ({"real"}, set())
        assert tasks(client) == {"real", "alive"}
        assert client.hget(QUEUE + "t:alive", "state") == b"pending"


@pytest.mark.parametrize("apply", [True, False])
def test_max_keeps_the_newest(server: Server, tmp_path: Path, *, apply: bool) -> None:
    """What is over `max` goes, oldest first, after what is due; tasks kept for ever count and stay."""
    policy = POLICY.replace("archived: {ttl: 7d}", "archived: {ttl: 7d, max: 5}")
    with server.client() as client:
        start = now(client)
        for number in range(10):
            put(client, f"task-{number}", "archived", start - 1000 + number)
        put(client, "due", "archived", start - 8 * DAY)
        put(client, "noise", "archived", start, task_type="noise:x")
        put(client, "precious", "archived", start - 2000, task_type="precious:x")
        journal = tmp_path / "journal"
        line = ["backfill", "--upstream", url(server), "--journal", str(journal), *(["--apply"] if apply else [])]
        assert tool(*line, policy=policy, folder=tmp_path).exit_code == 0
        removed = {line["id"] for line in journal_lines(journal) if line["action"] == "remove"}
        assert removed == {"due", "noise", *(f"task-{number}" for number in range(6))}
        timed = {line["id"] for line in journal_lines(journal) if line["action"] == "ttl"}
        assert timed == {f"task-{number}" for number in range(6, 10)}
        if apply:
            assert members(client, "archived") == tasks(client) == {"precious", *timed}


def test_filters(server: Server, tmp_path: Path) -> None:
    """Only tasks of the queues, states and types asked for are changed."""
    with server.client() as client:
        start = now(client)
        put(client, "a", "archived", start, task_type="mail:a")
        put(client, "b", "archived", start, task_type="sms:b")
        put(client, "c", "completed", start + 50, task_type="mail:c", retention_seconds=50, completed_at=start)
        put(client, "d", "archived", start, task_type="mail:d", queue="low")
        line = ("backfill", "--upstream", url(server), "--apply")
        wanted = ("--queue", "def*", "--state", "archived", "--type", "mail:*")
        assert tool(*line, *wanted, policy=POLICY, folder=tmp_path).exit_code == 0
        assert ttl(client, "a") > 0
        assert (ttl(client, "b"), ttl(client, "c"), ttl(client, "d", "low")) == (-1, -1, -1)


def test_a_rollout_is_respected(server: Server, tmp_path: Path) -> None:
    """Tasks outside the share that the policy enforces are left alone."""
    policy = POLICY.replace("grace: 60s", "grace: 60s\nrollout: 50%")
    with server.client() as client:
        for number in range(40):
            put(client, f"task-{number}", "archived", now(client))
        assert tool("backfill", "--upstream", url(server), "--apply", policy=policy, folder=tmp_path).exit_code == 0
        timed = sum(ttl(client, f"task-{number}") > 0 for number in range(40))
        assert 5 < timed < 35


def test_the_dry_run_tells_exactly_what_apply_does(server: Server, tmp_path: Path) -> None:
    """It changes nothing; its journal holds the changes that are then made, and its listing names them."""
    with server.client() as client:
        mixed_bag(client, 300)
        before = everything(client)
        line = ("backfill", "--upstream", url(server), "--orphans", "ttl", "--ghosts", "drop")
        dry = tool(*line, "--journal", tmp_path / "dry", "--show", "10000", policy=POLICY, folder=tmp_path)
        assert dry.exit_code == 0, dry.output
        assert everything(client) == before
        wet = tool(*line, "--journal", tmp_path / "wet", "--apply", policy=POLICY, folder=tmp_path)
        assert wet.exit_code == 0, wet.output
    planned, made = journal_lines(tmp_path / "dry"), journal_lines(tmp_path / "wet")
    assert len(planned) > 200
    assert sorted(planned, key=json.dumps) == sorted(made, key=json.dumps)
    listed = re.findall(r"^would (\w+)  default  \w+  (\S+)", dry.output, re.MULTILINE)
    assert sorted(listed) == sorted((line["action"], line["id"]) for line in planned)


def mixed_bag(client: "Redis", count: int) -> None:
    """Put tasks of every kind into the queue."""
    start = now(client)
    with client.pipeline() as pipeline:
        for number in range(count):
            kind = ("precious:x", "noise:x", "x", "x", "x")[number % 5]
            age = number * 4000
            put(pipeline, f"dead-{number}", "archived", start - age, task_type=kind, lock=number % 7 == 0)
            done: dict[str, Any] = {"retention_seconds": 900, "completed_at": start - age // 50}
            put(pipeline, f"done-{number}", "completed", start - age // 50 + 900, task_type=kind, **done)
            if number % 10 == 0:
                put(pipeline, f"orphan-{number}", "archived", None, task_type=kind, last_failed_at=start - age)
                put(pipeline, f"live-{number}", "pending", None)
                pipeline.zadd(QUEUE + "archived", {f"ghost-{number}": start - age, f"live-{number}": start - age})
        pipeline.execute()


def test_a_run_that_is_killed_and_goes_on_ends_as_one_that_ran_through(server: Server, tmp_path: Path) -> None:
    """After any number of SIGKILLs the keys are the same, and every change stands in the journal once."""
    with server.client() as killed, server.client(1) as through:
        mixed_bag(killed, 700)
        keys: Any = killed.keys("*")
        with killed.pipeline() as pipeline:
            for key in keys:
                pipeline.copy(key, key, destination_db=1)
            pipeline.execute()
        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY)
        options = ("--policy", policy, "--orphans", "ttl", "--ghosts", "drop", "--apply")
        whole = tool("backfill", "--upstream", url(server, 1), "--journal", tmp_path / "whole", *options)
        assert whole.exit_code == 0, whole.output
        journal = tmp_path / "killed"
        line: list[str | Path] = ["backfill", "--upstream", url(server), "--journal", journal, *options]
        kills = 0
        while run_and_kill(
            [*line, "--rate", "2000", *(["--resume"] if kills else [])], journal, 4000 * (4 + 6 * kills)
        ):
            kills += 1
        assert kills >= 3
        left, other = state_of(killed), state_of(through)
        assert left.keys() == other.keys()
        for key, (content, expires) in left.items():
            assert content == other[key][0], key
            assert expires == pytest.approx(other[key][1], abs=3), key
    changes = [json.dumps({**change, "expires_at_ms": 0, "reason": ""}) for change in journal_lines(journal)]
    expected = [
        json.dumps({**change, "expires_at_ms": 0, "reason": ""}) for change in journal_lines(tmp_path / "whole")
    ]
    assert sorted(changes) == sorted(expected)
    again = tool(*line, "--resume")
    assert again.exit_code == 1
    assert "came to its end" in again.output


def state_of(client: "Redis") -> dict[bytes, tuple[Any, float]]:
    """Return the content of every key, and when it expires (-1 for never)."""
    keys: Any = client.keys("*")
    with client.pipeline() as pipeline:
        for key in keys:
            pipeline.type(key)
        for key, kind in zip(keys, pipeline.execute(), strict=True):
            if kind == b"hash":
                pipeline.hgetall(key)
            elif kind == b"zset":
                pipeline.zrange(key, 0, -1, withscores=True)
            elif kind == b"set":
                pipeline.smembers(key)
            else:
                pipeline.dump(key)
            pipeline.pttl(key)
        found, at = pipeline.execute(), time.time()
    lives = [-1.0 if left < 0 else at + left / 1000 for left in found[1::2]]
    return dict(zip(keys, zip(found[::2], lives, strict=True), strict=True))


def test_a_journal_of_another_run_is_refused(server: Server, tmp_path: Path) -> None:
    """Neither a file that is there is written over, nor is a run continued with other options."""
    with server.client() as client:
        put(client, "a", "archived", now(client))
        journal = tmp_path / "journal"
        line = ("backfill", "--upstream", url(server), "--journal", journal)
        assert tool(*line, policy=POLICY, folder=tmp_path).exit_code == 0
        taken = tool(*line, "--apply", policy=POLICY, folder=tmp_path)
        assert (taken.exit_code, len(taken.output.splitlines())) == (1, 1)
        assert "is there already" in taken.output
        other = tool(*line, "--apply", "--resume", "--from-now", policy=POLICY, folder=tmp_path)
        assert other.exit_code == 1
        missing = tool(*line[:-1], tmp_path / "none", "--apply", "--resume", policy=POLICY, folder=tmp_path)
        assert "there is no run to go on with" in missing.output
        assert ttl(client, "a") == -1


def test_a_policy_that_is_not_enforced_is_not_carried_out(server: Server, tmp_path: Path) -> None:
    """In shadow mode the dry run shows what would be, and --apply is refused."""
    policy = POLICY.replace("version: 1", "version: 1\nmode: shadow")
    with server.client() as client:
        put(client, "a", "archived", now(client))
        line = ("backfill", "--upstream", url(server))
        assert "would ttl" in tool(*line, policy=policy, folder=tmp_path).output
        refused = tool(*line, "--apply", policy=policy, folder=tmp_path)
        assert refused.exit_code == 2
        assert "mode: shadow" in refused.output
        assert ttl(client, "a") == -1
