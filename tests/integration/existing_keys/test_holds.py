"""A held task stays, whatever removes others, until it is released, run again, or deleted by hand."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from redis import Redis

from asynq_ttl.asynq.hold import FIELD, HELD_SCORE
from support.asynq import Harness, Json
from support.asynq_calls import QUEUE as CALLS_QUEUE
from support.asynq_calls import AsynqCalls, calls_of
from support.existing_keys import DAY, QUEUE, everything, members, now, put, tasks, tool, ttl, url
from support.servers import Server, SidecarFactory, wait_until
from support.task_message import encode_task

POLICY = """
version: 1
grace: 30s
adopt: all
rules:
  - {name: all, archived: {ttl: 2s, max: 1}, completed: {ttl: 2s}}
"""
KEEP = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
QUICK = {"sweep_interval": "0.2"}
WORK: tuple[Json, ...] = (
    {"id": "dead", "type": "x", "payload": '{"do": "skip"}', "unique": "1h"},
    {"id": "done", "type": "x", "retention": "1h"},
)


def held(client: "Redis", name: str, state: str, queue: str = "default") -> bool:
    """Say whether a task is held in a state, whole: field, score and no TTL."""
    prefix = f"asynq:{{{queue}}}:"
    found: Any = client.hmget(f"{prefix}t:{name}", "state", FIELD)
    score = client.zscore(prefix + state, name)
    return bool(found[0] == state.encode() and found[1] and score == HELD_SCORE and ttl(client, name, queue) == -1)


def hold(server: Server, *names: str, queue: str = "default") -> None:
    """Hold tasks, each of which can be."""
    done = tool("hold", queue, *names, "--upstream", url(server))
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [f"{name}  held" for name in names]


def test_each_task_has_its_line(server: Server) -> None:
    """And the status says whether all were held; a task that was held already is."""
    with server.client() as client:
        put(client, "dead", "archived", now(client), ttl=100)
        put(client, "done", "completed", now(client) + 50)
        put(client, "alive", "pending", None)
        put(client, "orphan", "archived", None)
        client.hset(QUEUE + "t:half", "state", "archived")
        client.set(QUEUE + "t:text", "x")
        client.hset(QUEUE + "t:json", mapping={"msg": b"{}", "state": "archived"})
        client.zadd(QUEUE + "archived", {"json": 5})
        names = ("dead", "done", "alive", "orphan", "half", "text", "json", "nobody", "dead")
        before = everything(client)
        result = tool("hold", "default", *names, "--upstream", url(server))
        assert result.exit_code == 1
        assert result.output.splitlines() == [
            "dead  held",
            "done  held",
            "alive  not held: it is pending, and only an archived or completed task can be held",
            "orphan  not held: it is archived, but no index names it (an orphan: see `backfill --orphans`)",
            "half  there is no such task in this queue",
            "text  not held: something else than a task, or than an index, is at its key",
            "json  held",
            "nobody  there is no such task in this queue",
        ]
        assert all(held(client, name, state) for name, state in (("dead", "archived"), ("done", "completed")))
        again = tool("hold", "default", "dead", "--upstream", url(server))
        assert (again.exit_code, again.output) == (0, "dead  is held already\n")
        result = tool("release", "default", *names, "--upstream", url(server))
        assert result.exit_code == 1
        lines = dict(line.split("  ", 1) for line in result.output.splitlines())
        assert lines["dead"].startswith("released; its key expires at 20")
        assert lines["done"] == lines["json"] == "released; it has no TTL"
        assert lines["alive"] == lines["orphan"] == "is not held"
        assert lines["nobody"] == "there is no such task in this queue"
        assert everything(client) == before
        assert 95 < ttl(client, "dead") <= 100


def test_an_odd_queue_name_is_refused(server: Server) -> None:
    """With one line, and nothing is asked of Redis."""
    for name in ("", "a}:t:b"):
        result = tool("hold", name, "x", "--upstream", url(server))
        assert result.exit_code == 2
        assert "can be read as another queue's" in result.output


def test_a_release_gives_what_the_policy_says(server: Server, tmp_path: Path) -> None:
    """Counted from when the task ended; what is due goes within a minute."""
    policy = """
version: 1
rules:
  - {name: precious, match: {type: "precious:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: all, match: {type: "x"}, archived: {ttl: 7d}, completed: {ttl: 2h}}
"""
    with server.client() as client:
        start = now(client)
        put(client, "young", "archived", start - DAY)
        put(client, "due", "archived", start - 8 * DAY, lock=True)
        put(client, "precious", "archived", start - DAY, task_type="precious:a", ttl=100)
        put(client, "done", "completed", start + 50, completed_at=start - 60, retention_seconds=110)
        put(client, "other", "archived", start - DAY, task_type="other", ttl=100)
        hold(server, "young", "due", "precious", "done", "other")
        command = ("release", "default", "young", "due", "precious", "done", "other", "--upstream", url(server))
        result = tool(*command, policy=policy, folder=tmp_path)
        assert result.exit_code == 0, result.output
        assert "due  released; its time is over, so it goes within a minute" in result.output
        assert ttl(client, "young") == pytest.approx(6 * DAY + 60, abs=30)
        assert 0 < ttl(client, "due") <= 60
        assert ttl(client, "precious") == -1
        assert ttl(client, "done") == pytest.approx(7200, abs=30)
        assert client.zscore(QUEUE + "completed", "done") == pytest.approx(start - 60 + 7200, abs=30)
        # Asynq's own time: the rule that keeps for ever has its trims taken over.
        assert ttl(client, "other") == pytest.approx(89 * DAY + 60, abs=30)
        assert client.zscore(QUEUE + "archived", "young") == start - DAY


def test_a_held_task_outlives_the_others(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Sweeper, trims and adoption take what is not held; the tools pass it over; Asynq shows it as ever."""
    sidecar = start_sidecar(url(server), KEEP)
    harness.enqueue(sidecar.address, *WORK)
    harness.work(sidecar.address)
    hold(server, "dead", "done")
    sidecar.stop()
    sidecar = start_sidecar(url(server), POLICY, **QUICK)
    others: list[Json] = [{"id": f"dead-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(3)]
    harness.enqueue(sidecar.address, *others, {"id": "done-1", "type": "x", "retention": "1h"})
    harness.work(sidecar.address)
    with server.client() as client:
        wait_until(lambda: tasks(client) == {"dead", "done"}, "the others are not swept")
        where = ("--upstream", url(server), "--apply")
        backfill = ("backfill", *where, "--orphans", "delete", "--ghosts", "drop", "--from-now")
        done = tool(*backfill, policy=POLICY, folder=tmp_path)
        assert (done.exit_code, "2 held, which stay" in done.stderr) == (0, True), done.output
        for command in (("persist", *where), ("clean", *where, "--state", "archived", "--state", "completed")):
            done = tool(*command)
            assert done.exit_code == 0, done.output
        assert held(client, "dead", "archived")
        assert held(client, "done", "completed")
        dead = harness.inspect(sidecar.address, {"op": "get_task", "queue": "default", "id": "dead"})[0]
        assert dead["state"] == "archived"
        info = harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]
        assert (info["archived"], info["completed"]) == (1, 1)
        for state, name in (("archived", "dead"), ("completed", "done")):
            listed = harness.inspect(sidecar.address, {"op": "list", "queue": "default", "state": state})[0]
            assert [task["id"] for task in listed] == [name]


def test_a_run_through_the_sidecar_ends_it(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """One by one or all at once: the field goes in the same execution."""
    sidecar = start_sidecar(url(server), KEEP, sweep_interval="0")
    skipping: list[Json] = [{"id": f"dead-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(3)]
    harness.enqueue(sidecar.address, *skipping)
    harness.work(sidecar.address)
    hold(server, "dead-0", "dead-1")
    with server.client() as client:
        harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "dead-0"})
        assert client.hgetall(QUEUE + "t:dead-0").keys() >= {b"msg", b"state"}
        assert not client.hexists(QUEUE + "t:dead-0", FIELD)
        assert held(client, "dead-1", "archived")
        (count,) = harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
        assert count == 2
        assert not client.hexists(QUEUE + "t:dead-1", FIELD)
        assert members(client, "archived") == set()


def test_a_held_completed_task_stays_held_in_the_archive(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Archiving it by hand is none of the three ends of a hold."""
    sidecar = start_sidecar(url(server), POLICY, sweep_interval="0")
    harness.enqueue(sidecar.address, WORK[1])
    harness.work(sidecar.address)
    hold(server, "done")
    with server.client() as client:
        harness.inspect(sidecar.address, {"op": "archive_task", "queue": "default", "id": "done"})
        assert held(client, "done", "archived")
        result = tool("release", "default", "done", "--upstream", url(server))
        assert (result.exit_code, result.output) == (0, "done  released; it has no TTL\n")
        assert client.zscore(QUEUE + "archived", "done") == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize("through", [True, False], ids=["sidecar", "direct"])
def test_asynqs_own_trims_and_janitor_pass_it_over(
    server: Server, start_sidecar: SidecarFactory, through: bool
) -> None:
    """Past every sidecar too: by its score it is the newest, and due when no clock is."""
    sidecar = start_sidecar(url(server), POLICY, sweep_interval="0") if through else None
    with server.client() as client, sidecar.client() if sidecar else server.client() as asked:
        calls: AsynqCalls[Any] = calls_of(asked)
        start, prefix = now(client), f"asynq:{{{CALLS_QUEUE}}}:"
        for name in ("old", "older"):
            put(client, name, "archived", start - 100 * DAY, queue=CALLS_QUEUE)
        for name in ("due", "held-due"):
            put(client, name, "completed", start - 100, queue=CALLS_QUEUE)
        hold(server, "old", "held-due", queue=CALLS_QUEUE)
        for number in range(3):
            name, encoded = f"new-{number}", encode_task("x", f"new-{number}", CALLS_QUEUE)
            calls.enqueue(name, encoded, None, start)
            calls.dequeue(start)
            assert calls.archive(name, encoded, start + number, cap=2) == b"OK"
        assert calls.janitor(start) == 1
        assert members(client, "completed", CALLS_QUEUE) == {"held-due"}
        assert held(client, "old", "archived", CALLS_QUEUE)
        # Behind the sidecar a hold pushes nothing out of an archive of one.
        assert members(client, "archived", CALLS_QUEUE) == ({"old", "new-2"} if through else {"old"})
        assert client.exists(prefix + "t:old")


def test_a_field_that_a_run_past_the_sidecar_has_left_is_no_hold(server: Server, start_sidecar: SidecarFactory) -> None:
    """The task lives its next life as any other."""
    with server.client() as client, start_sidecar(url(server), POLICY, sweep_interval="0").client() as asked:
        past, calls = calls_of(client), calls_of(asked)
        start = now(client)
        put(client, "a", "archived", start, queue=CALLS_QUEUE)
        put(client, "b", "archived", start - 5, queue=CALLS_QUEUE)
        hold(server, "a", "b", queue=CALLS_QUEUE)
        assert past.run_one("a") == 1
        assert client.hexists(f"asynq:{{{CALLS_QUEUE}}}:t:a", FIELD)
        encoded = calls.dequeue(start)
        assert calls.archive("a", encoded, start) == b"OK"
        assert 0 < ttl(client, "a", CALLS_QUEUE) <= 32
        assert tool("release", CALLS_QUEUE, "a", "--upstream", url(server)).output == "a  is not held\n"
        assert held(client, "b", "archived", CALLS_QUEUE)


def test_a_foreign_script_that_moves_it_leaves_it_held(server: Server, start_sidecar: SidecarFactory) -> None:
    """And one that runs it again ends the hold."""
    with server.client() as client, start_sidecar(url(server), POLICY, sweep_interval="0").client() as asked:
        put(client, "done", "completed", now(client) + 50)
        hold(server, "done")
        keys = (QUEUE + "t:done", QUEUE + "completed", QUEUE + "archived")
        move = (
            "redis.call('ZREM', KEYS[2], ARGV[1]) redis.call('HSET', KEYS[1], 'state', ARGV[2]) "
            "if ARGV[2] == 'pending' then return redis.call('ZREM', KEYS[3], ARGV[1]) end "
            "return redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])"
        )
        asked.eval(move, 3, *keys, "done", "archived", str(now(client)))
        assert held(client, "done", "archived")
        asked.eval(move, 3, *keys, "done", "pending")
        assert not client.hexists(QUEUE + "t:done", FIELD)


def test_an_audit_counts_what_is_held(server: Server, tmp_path: Path) -> None:
    """With its age from when it ended, and without an end."""
    with server.client() as client:
        start = now(client)
        put(client, "dead", "archived", start - 20 * DAY)
        put(client, "other", "archived", start - 20 * DAY, ttl=100)
        hold(server, "dead")
        result = tool("audit", "--upstream", url(server), "--json", policy=POLICY, folder=tmp_path)
        report = json.loads(result.stdout)
        (group,) = report["groups"]
        assert (group["tasks"], group["held"]) == (2, 1)
        assert group["oldest_seconds"] == pytest.approx(20 * DAY, abs=30)
        assert "untimed" not in {finding["code"] for finding in report["findings"]}
        assert report["forecast"]["policy"][-1] > 0
        assert "held" in tool("audit", "--upstream", url(server), policy=POLICY, folder=tmp_path).stdout


def test_a_sink_gets_the_others(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Neither because they are due, nor because they are one too many, are held tasks handed over and removed."""
    policy = POLICY.replace("ttl: 2s, max: 1", "ttl: 1h, max: 2")
    sidecar = start_sidecar(url(server), policy, sink=f"file:{tmp_path / 'tasks'}", sweep_interval="0.2")
    first: list[Json] = [{"id": f"first-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(2)]
    harness.enqueue(sidecar.address, *first)
    harness.work(sidecar.address)
    hold(server, "first-0", "first-1")
    others: list[Json] = [{"id": f"dead-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(5)]
    harness.enqueue(sidecar.address, *others)
    harness.work(sidecar.address)
    with server.client() as client:
        wait_until(lambda: len(members(client, "archived")) == 4, "the archive is not cut down to its newest", 25)
        assert {"first-0", "first-1"} < members(client, "archived")
        assert held(client, "first-0", "archived")
        wait_until(lambda: len((tmp_path / "tasks").read_text().splitlines()) == 3, "the sink does not get them", 25)
        assert "first" not in (tmp_path / "tasks").read_text()


def test_a_ttl_that_somebody_gave_it_comes_off(server: Server, start_sidecar: SidecarFactory) -> None:
    """By whoever does not know of holds; and the sidecar counts it."""
    with server.client() as client:
        put(client, "dead", "archived", now(client) - DAY)
        hold(server, "dead")
        client.expire(QUEUE + "t:dead", 300)
        policy = POLICY.replace("grace: 30s", "grace: 10m")
        sidecar = start_sidecar(url(server), policy, admin="127.0.0.1:0", **QUICK)
        with sidecar.client() as asked:
            calls_of(asked).dequeue(now(client))
        wait_until(lambda: held(client, "dead", "archived"), "the TTL stays", 60)

        def counted() -> int:
            with urlopen(f"http://{sidecar.admin}/api/status") as answer:
                return int(json.load(answer)["sweep"]["held"])

        wait_until(lambda: counted() == 1, "the held task is not counted", 60)
