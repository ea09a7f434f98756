"""Asynq's scripts through the sidecar: an enqueue with the ID of an ended task replaces it where a rule says so."""

import threading
from typing import Any

import pytest
import redis

from support.asynq_calls import PREFIX, AsynqCalls, calls_of, task_key
from support.servers import Server, SidecarFactory
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
HOW = ("pending", "unique", "scheduled", "scheduled unique", "group")
NOW = 1_800_000_000
NEW = encode_task("mail:new", "1", payload=b"new")


def enqueue(calls: "AsynqCalls[Any]", how: str, message: bytes = NEW) -> Any:
    """Enqueue the task 1."""
    lock = "u" if "unique" in how else None
    if how == "group":
        return calls.add_to_group("1", message, "g1", NOW)
    return calls.schedule("1", message, lock, NOW) if "scheduled" in how else calls.enqueue("1", message, lock, NOW)


def end(
    direct: "redis.Redis", calls: "AsynqCalls[Any]", state: str, kind: str = "mail:old", lock: str | None = None
) -> None:
    """Let the task 1 end, and leave it its lock if it has one."""
    retention = 600 if state == "completed" else 0
    message, now = encode_task(kind, "1", retention_seconds=retention), direct.time()[0]
    assert calls.enqueue("1", message, lock, now) == 1
    assert calls.dequeue(now) == message
    if state == "archived":
        assert calls.archive("1", message, now) == b"OK"
    elif state == "done":
        assert calls.done("1", lock, now) == b"OK"
    else:
        assert calls.complete("1", message, retention, lock, now) == b"OK"
    assert direct.hget(task_key("1"), "state") == (b"archived" if state == "archived" else b"completed")


def places(direct: "redis.Redis") -> list[str]:
    """Return where the task 1 is listed."""
    sets = [
        name for name in ("scheduled", "archived", "completed", "g:g1") if direct.zscore(PREFIX + name, "1") is not None
    ]
    return sets + ["pending"] * direct.lrange(f"{PREFIX}pending", 0, -1).count(b"1")


@pytest.mark.parametrize("state", ["archived", "completed", "done"])
@pytest.mark.parametrize("how", HOW)
def test_an_ended_task_is_replaced(server: Server, start_sidecar: SidecarFactory, state: str, how: str) -> None:
    """Its hash, entry and lock are gone, and the new task is as any other: in one place, without a TTL."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        end(direct, calls, state, lock="u" if "unique" in how else None)
        assert enqueue(calls, how) == 1
        where = {"group": "g:g1"}.get(how, "scheduled" if "scheduled" in how else "pending")
        assert places(direct) == [where]
        found = direct.hgetall(task_key("1"))
        assert found[b"msg"] == NEW
        assert b"asynq_ttl_done" not in found
        assert direct.ttl(task_key("1")) == -1
        assert direct.get(f"{PREFIX}unique:u") == (b"1" if "unique" in how else None)
        assert enqueue(calls, "pending") == 0


@pytest.mark.parametrize("state", ["archived", "completed", "done"])
@pytest.mark.parametrize("how", HOW)
def test_a_task_of_another_rule_is_not_replaced(
    server: Server, start_sidecar: SidecarFactory, state: str, how: str
) -> None:
    """The type of the ended task decides, not that of the new one."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        end(direct, calls, state, "pay:old")
        before = direct.hgetall(task_key("1"))
        assert enqueue(calls, how) == 0
        assert direct.hgetall(task_key("1")) == before
        assert places(direct) == ["archived" if state == "archived" else "completed"]


@pytest.mark.parametrize("state", ["pending", "scheduled", "active"])
@pytest.mark.parametrize("how", HOW)
def test_a_live_task_is_never_replaced(server: Server, start_sidecar: SidecarFactory, state: str, how: str) -> None:
    """It conflicts as ever."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        assert enqueue(calls, "scheduled" if state == "scheduled" else "pending") == 1
        if state == "active":
            calls.dequeue(NOW)
        before = direct.hgetall(task_key("1"))
        assert enqueue(calls, how, encode_task("mail:other", "1")) == 0
        assert direct.hgetall(task_key("1")) == before


@pytest.mark.parametrize("how", ["unique", "scheduled unique"])
def test_a_lock_of_another_task_is_a_conflict_as_ever(server: Server, start_sidecar: SidecarFactory, how: str) -> None:
    """The new task would not be added, so the old one stays."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        calls = calls_of(client)
        end(direct, calls, "archived")
        direct.set(f"{PREFIX}unique:u", "2")
        assert enqueue(calls, how) == -1
        assert places(direct) == ["archived"]
        assert direct.get(f"{PREFIX}unique:u") == b"2"


def test_two_producers_at_once_make_one_task(server: Server, start_sidecar: SidecarFactory) -> None:
    """One of them replaces the ended task, the other conflicts with the new one."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        for _ in range(30):
            direct.flushdb()
            end(direct, calls_of(client), "archived")
            replies: list[Any] = []

            def produce() -> None:
                with sidecar.client() as mine:
                    replies.append(enqueue(calls_of(mine), "pending"))  # noqa: B023 - it is joined in the same round

            producers = [threading.Thread(target=produce) for _ in range(4)]
            for producer in producers:
                producer.start()
            for producer in producers:
                producer.join()
            assert sorted(replies) == [0, 0, 0, 1]
            assert places(direct) == ["pending"]


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_shadow_and_off_replace_nothing(server: Server, start_sidecar: SidecarFactory, mode: str) -> None:
    """It conflicts as ever."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        end(direct, calls_of(client), "archived")
        sidecar.reload(POLICY.replace("version: 1", f"version: 1\nmode: {mode}"))
        assert enqueue(calls_of(client), "pending") == 0
        assert places(direct) == ["archived"]
