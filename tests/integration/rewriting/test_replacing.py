"""Asynq's scripts through the sidecar: an enqueue with the ID of an ended task replaces it where a rule says so."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from asynq_ttl.lua.loader import load
from support.asynq import Harness
from support.asynq_calls import PREFIX, VERSION, AsynqCalls, Call, calls_of, task_key
from support.asynq_source import VERSIONS, scripts
from support.cluster import Kind, node_ports, serve_cluster, start_cluster
from support.servers import Server, SidecarFactory, connect, wait_until
from support.task_message import encode_task

POLICY = """
version: 1
rules:
  - {name: pay, match: {type: "pay:*"}, archived: {ttl: 7d}, completed: {ttl: 7d}, done: {ttl: 1h}}
  - name: mail
    archived: {ttl: 7d, on_conflict: replace}
    completed: {ttl: 7d, on_conflict: replace}
    done: {ttl: 1h, on_conflict: replace}
"""
# How a task is enqueued, and where it is then.
HOW = {
    "plain": "pending",
    "unique": "pending",
    "scheduled": "scheduled",
    "scheduled unique": "scheduled",
    "grouped": "g:g1",
    "grouped unique": "g:g1",
}
STATES = ("archived", "completed", "done")
NOW = 1_800_000_000
NEW = encode_task("mail:new", "1", payload=b"new")
LOCK = f"{PREFIX}unique:u"
each_state = pytest.mark.parametrize("state", STATES)


def enqueue(calls: "AsynqCalls[Any]", how: str, message: bytes = NEW) -> Any:
    """Enqueue the task 1."""
    lock = "u" if "unique" in how else None
    if "grouped" in how:
        return calls.add_to_group("1", message, "g1", NOW, lock)
    return calls.schedule("1", message, lock, NOW) if "scheduled" in how else calls.enqueue("1", message, lock, NOW)


def end(
    direct: "redis.Redis", calls: "AsynqCalls[Any]", state: str, kind: str = "mail:old", lock: str | None = None
) -> dict[Any, Any]:
    """Let the task 1 end in an empty database, leave it its lock if it has one; return its hash."""
    direct.flushdb()
    retention = 600 if state == "completed" else 0
    message, now = encode_task(kind, "1", retention_seconds=retention), direct.time()[0]
    assert calls.enqueue("1", message, lock, now) == 1
    assert calls.dequeue(now) == message
    if state == "archived":
        assert calls.archive("1", message, now) == b"OK"
    elif state == "done":
        assert calls.done("1", None, now) == b"OK"
    else:
        assert calls.complete("1", message, retention, None, now) == b"OK"
    found = direct.hgetall(task_key("1"))
    assert found[b"state"] == (b"archived" if state == "archived" else b"completed")
    return found


def scripts_alone(client: "redis.Redis", version: str = VERSION) -> "AsynqCalls[Any]":
    """Return what calls a release's scripts and does nothing else."""

    def send(call: Call) -> Any:
        text, words = scripts(version)[call.script].decode(), (*call.keys, *call.args)
        return client.eval(text, len(call.keys), *words, 0, 0)  # until v0.20 a timeout and a deadline come last

    return AsynqCalls(send)


def places(direct: "redis.Redis") -> list[str]:
    """Return where the task 1 is listed."""
    names = ("scheduled", "archived", "completed", "g:g1")
    sets = [name for name in names if direct.zscore(PREFIX + name, "1") is not None]
    return sets + ["pending"] * direct.lrange(f"{PREFIX}pending", 0, -1).count(b"1")


def index_of(state: str) -> str:
    """Return the index in which a task is that has ended so."""
    return "archived" if state == "archived" else "completed"


@each_state
def test_an_ended_task_is_replaced(server: Server, start_sidecar: SidecarFactory, state: str) -> None:
    """Its hash, entry and lock are gone, and the new task is as any other: in one place, without a TTL."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        for how, where in HOW.items():
            end(direct, calls, state, lock="u")
            assert enqueue(calls, how) == 1, how
            assert places(direct) == [where]
            found = direct.hgetall(task_key("1"))
            assert found[b"msg"] == NEW
            assert b"asynq_ttl_done" not in found
            assert direct.ttl(task_key("1")) == -1
            # A lock that the old one had is gone; one that the new one takes is there, for as long as it says.
            assert direct.get(LOCK) == (b"1" if "unique" in how else None)
            assert direct.ttl(LOCK) == (86_400 if "unique" in how else -2)
            assert enqueue(calls, how) == (-1 if "unique" in how else 0)
            assert places(direct) == [where]
            assert {key.removeprefix(PREFIX.encode()) for key in direct.keys(f"{PREFIX}*aside*")} == set()


@each_state
def test_a_task_of_another_rule_is_not_replaced(server: Server, start_sidecar: SidecarFactory, state: str) -> None:
    """The type of the ended task decides. Nor is one that is held, or whose lock is another's."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        for how in HOW:
            before = end(direct, calls, state, "pay:old")
            assert enqueue(calls, how) == 0
            assert direct.hgetall(task_key("1")) == before
            assert places(direct) == [index_of(state)]
            before = end(direct, calls, state)
            hold(direct)
            assert enqueue(calls, how) == 0
            assert direct.hgetall(task_key("1")).items() > before.items()
            assert places(direct) == [index_of(state)]
            if "unique" in how:
                before = end(direct, calls, state)
                direct.set(LOCK, "2")
                assert enqueue(calls, how) == -1
                assert (direct.hgetall(task_key("1")), direct.get(LOCK)) == (before, b"2")
                assert places(direct) == [index_of(state)]


def hold(direct: "redis.Redis") -> None:
    """Hold the task 1, as `asynq-ttl hold` does."""
    script = load("shared/task.prologue", "shared/hold.prologue", "existing_keys/hold_tasks")
    assert direct.eval(script, 1, task_key("1"), PREFIX, "1") == [b"held"]


@pytest.mark.parametrize("state", ["pending", "scheduled", "active", "retry"])
def test_a_live_task_is_never_replaced(server: Server, start_sidecar: SidecarFactory, state: str) -> None:
    """It conflicts as ever."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        for how in HOW:
            direct.flushdb()
            assert enqueue(calls, "scheduled" if state == "scheduled" else "plain") == 1
            if state in ("active", "retry"):
                calls.dequeue(NOW)
            if state == "retry":
                calls.retry("1", NEW, NOW, NOW)
            before = direct.hgetall(task_key("1"))
            assert enqueue(calls, how, encode_task("mail:other", "1")) == 0
            assert direct.hgetall(task_key("1")) == before


@pytest.mark.parametrize("fault", ["no list", "no index", "no right", "no groups"])
def test_what_cannot_be_done_whole_is_not_done(server: Server, start_sidecar: SidecarFactory, fault: str) -> None:
    """The enqueue conflicts as ever, and the ended task has what it had: hash, TTL, entry and lock."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        before = end(direct, calls_of(client), "archived", lock="u")
        direct.delete(f"{PREFIX}pending")
        if fault == "no list":
            direct.set(f"{PREFIX}pending", "no list")
        elif fault == "no index":
            direct.set(f"{PREFIX}completed", "no index")
        elif fault == "no groups":
            direct.set(f"{PREFIX}groups", "no set")
        elif fault == "no right":
            direct.execute_command("ACL", "SETUSER", "default", "-rename")
        score, ttl = direct.zscore(f"{PREFIX}archived", "1"), direct.pttl(task_key("1"))
        plain, unique = ("grouped", "grouped unique") if fault == "no groups" else ("plain", "unique")
        try:
            assert enqueue(calls_of(client), plain) == 0
            assert enqueue(calls_of(client), unique) == -1
        finally:
            direct.execute_command("ACL", "SETUSER", "default", "+@all")
        assert [name for name in ("archived", "g:g1") if direct.zscore(PREFIX + name, "1")] == ["archived"]
        assert direct.hgetall(task_key("1")) == before
        assert direct.zscore(f"{PREFIX}archived", "1") == score
        assert ttl - 60_000 < direct.pttl(task_key("1")) <= ttl
        assert (direct.get(LOCK), direct.ttl(LOCK) > 0) == (b"1", True)
        assert direct.keys(f"{PREFIX}*aside*") == []


def test_without_memory_nothing_is_replaced(server: Server, start_sidecar: SidecarFactory) -> None:
    """Past `maxmemory` an enqueue adds nothing: not even in the place of another task."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0")
    with server.client() as direct, sidecar.client() as client:
        calls = scripts_alone(client)
        before = end(direct, calls_of(client), "archived")
        direct.config_set("maxmemory", 1)
        try:
            assert [enqueue(calls, how) for how in ("plain", "scheduled", "grouped")] == [0, 0, 0]
            with pytest.raises(redis.ResponseError, match="used memory"):
                enqueue(calls, "unique")
        finally:
            direct.config_set("maxmemory", 0)
        assert (places(direct), direct.hgetall(task_key("1"))) == (["archived"], before)
        assert enqueue(calls, "unique") == 1


@each_state
@pytest.mark.parametrize("version", [version for version in VERSIONS if version != "v0.18.6"])
def test_each_version_s_scripts(server: Server, start_sidecar: SidecarFactory, version: str, state: str) -> None:
    """Every release that refuses an ID that is taken: v0.18 never did."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        old = scripts_alone(client, version)
        for lock in (None, "u"):
            end(direct, calls_of(client), state)
            assert old.schedule("1", NEW, lock, NOW) == 1
            assert places(direct) == ["scheduled"]
            end(direct, calls_of(client), state)
            assert old.enqueue("1", NEW, lock, NOW) == 1
            assert (places(direct), direct.hget(task_key("1"), "msg")) == (["pending"], NEW)


def together(*work: Callable[[], None]) -> None:
    """Do several things at once."""
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_whoever_else_is_at_it_there_is_one_task(server: Server, start_sidecar: SidecarFactory) -> None:
    """Two producers, a run by hand and a sweep of a task that is due, at once: one task in one place, never a ghost."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.02")
    with server.client() as direct, sidecar.client() as client, sidecar.client() as one, sidecar.client() as other:
        for attempt in range(60):
            state = STATES[attempt % 3]
            end(direct, calls_of(client), state)
            if attempt % 2:
                direct.pexpire(task_key("1"), 59_000)
            replies: list[Any] = []
            ran: list[Any] = []
            together(
                lambda: replies.append(enqueue(calls_of(one), "plain")),  # noqa: B023 - they end in the same round
                lambda: replies.append(enqueue(calls_of(other), "scheduled")),  # noqa: B023 - likewise
                lambda: ran.append(calls_of(client).run_one("1")),  # noqa: B023 - likewise
            )
            # Either a producer has replaced it, or followed its removal, or it runs again and both are refused.
            assert sum(replies) <= 1, (attempt, replies, ran)
            [where] = places(direct)
            assert where in ("pending", "scheduled"), (attempt, replies, ran)
            found = direct.hgetall(task_key("1"))
            assert (found[b"msg"] == NEW) == (sum(replies) == 1), (attempt, replies, ran)
            assert found[b"state"] == where.encode()
            assert direct.ttl(task_key("1")) == -1


def entries(path: Path, operation: str) -> list[dict[str, Any]]:
    """Return what a decision log says of an operation."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [entry for entry in found if entry.get("operation") == operation]


@pytest.mark.parametrize("mode", ["enforce", "shadow", "sink"])
def test_what_is_replaced_is_told(server: Server, start_sidecar: SidecarFactory, tmp_path: Path, mode: str) -> None:
    """Which state and rule it was; in shadow mode, and where a sink is to have it first, what would have been."""
    log = tmp_path / "decisions"
    options = {"sink": f"file:{tmp_path / 'ended'}"} if mode == "sink" else {}
    sidecar = start_sidecar(server.url, POLICY, decisions=str(log), **options)
    with server.client() as direct, sidecar.client() as client:
        for number, state in enumerate(STATES):
            end(direct, calls_of(client), state)
            if mode == "shadow":
                sidecar.reload(POLICY.replace("version: 1", "version: 1\nmode: shadow"))
            assert enqueue(calls_of(client), "unique") == (1 if mode == "enforce" else 0)
            assert places(direct) == ["pending" if mode == "enforce" else index_of(state)]
            wait_until(lambda: len(entries(log, "replace")) > number, "it is not told", 60)  # noqa: B023 - it is done here
            if mode == "shadow":
                sidecar.reload(POLICY)
        told = entries(log, "replace")
        assert [(each["state"], each["rule"], each["action"]) for each in told] == [
            (index_of(state), "mail", "replaced") for state in STATES
        ]
        assert {(each["mode"], each["id"], each["type"]) for each in told} == {
            ("enforce" if mode == "enforce" else "shadow", "1", "mail:new")
        }
        assert not any("tasks" in each for each in told)
        # A conflict with a live task is no news, and neither is an enqueue without one.
        direct.flushdb()
        assert [enqueue(calls_of(client), "plain") for _ in range(2)] == [1, 0]
    assert sidecar.stop() == 0
    assert len(entries(log, "replace")) == 3


def test_off_replaces_nothing(server: Server, start_sidecar: SidecarFactory) -> None:
    """It conflicts as ever."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        end(direct, calls_of(client), "archived")
        sidecar.reload(POLICY.replace("version: 1", "version: 1\nmode: off"))
        assert enqueue(calls_of(client), "plain") == 0
        assert places(direct) == ["archived"]


def test_asynq_itself(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Its client is told success where it was told a conflict before, and its worker runs the new task."""
    sidecar = start_sidecar(server.url, POLICY)

    def task(kind: str, do: str, **options: Any) -> dict[str, Any]:
        return {"id": "a", "type": kind, "payload": json.dumps({"do": do}), **options}

    def add(kind: str, do: str, **options: Any) -> bool:
        [answer] = harness.enqueue(sidecar.address, task(kind, do, **options))
        assert answer.get("kind", "conflict") in ("conflict", "duplicate")
        return "error" not in answer

    for options in ({}, {"unique": "1h"}, {"process_in": "1h"}, {"group": "g"}):
        assert add("mail:bad", "skip")
        harness.work(sidecar.address)
        assert add("mail:good", "ok", **options), options
        assert not add("mail:good", "ok", **options)
        with server.client() as direct:
            state = {"process_in": b"scheduled", "group": b"aggregating"}.get(next(iter(options), ""), b"pending")
            assert direct.hget("asynq:{default}:t:a", "state") == state
            assert direct.zcard("asynq:{default}:archived") == 0
            direct.flushdb()
    assert add("pay:bad", "skip")
    harness.work(sidecar.address)
    assert not add("pay:good", "ok")


@pytest.mark.timeout(120)
def test_at_the_nodes_of_a_cluster(start_sidecar: SidecarFactory) -> None:
    """By routing, and through the port of each node: one task has one slot."""
    with start_cluster(Kind("redis")) as cluster:
        sidecar = serve_cluster(start_sidecar, cluster, POLICY)
        owner = cluster.owner(task_key("1"))
        ports = [sidecar.port, node_ports(sidecar)[owner.port]]
        with connect(port=owner.port) as direct:
            for state in STATES:
                for port in ports:
                    with connect(port=port) as client:
                        calls = scripts_alone(client)
                        end(direct, calls, state, lock="u")
                        assert enqueue(calls, "unique") == 1
                        assert (places(direct), direct.hget(task_key("1"), "msg")) == (["pending"], NEW)
