"""Wrappers that trim the archive: by number, by age, and by whose clock."""

import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from asynq_ttl.policy.rules import FULL_ROLLOUT, Retention, Rule
from support.asynq_calls import OWN_CAP, OWN_SECONDS, Call
from support.policy_calls import DAY, FOREVER, GRACE, NOW, for_seconds, policy_of, types
from support.servers import Server, connect
from support.wrapped import (
    BUILD,
    PREFIX,
    QUEUE,
    add,
    archive,
    complete,
    learnt,
    look,
    original,
    send,
    within,
    worker_without,
    wrapped,
)

ARCHIVE_VERSIONS = ["v0.19.0", "v0.24.1", "v0.26.0"]


@pytest.mark.parametrize("cap", [1, 2, 50])
@pytest.mark.parametrize("version", ARCHIVE_VERSIONS)
def test_a_cap_is_exact_and_keeps_the_newest(empty: redis.Redis, version: str, cap: int) -> None:
    """After each of 60 failures the archive holds the newest `max` tasks, entries and hashes."""
    policy = policy_of(Rule("all", archived=for_seconds(DAY), archived_max=cap))
    script = learnt(version, "archiveCmd")
    ids = [f"task{number}" for number in range(60)]
    for number, task_id in enumerate(ids):
        add(empty, task_id, "active")
        reply, _ = send(empty, script, archive(task_id, f"type{number % 3}", NOW + number), policy)
        assert reply == b"OK"
        assert empty.zcard(f"{QUEUE}archived") == min(cap, number + 1)
    ours = look(empty, None)
    assert ours.tasks("archived") == ids[-cap:]
    assert ours.hashes() == set(ids[-cap:])


@pytest.mark.parametrize("cap", [1, 2, 50])
@pytest.mark.parametrize(("name", "source"), [("archiveAllCmd", "scheduled"), ("archiveAllPendingCmd", "pending")])
def test_a_cap_holds_for_bulk_archiving_too(empty: redis.Redis, name: str, source: str, cap: int) -> None:
    """60 tasks archived at once leave `max` entries, each with its hash, and no orphan."""
    for number in range(60):
        add(empty, f"task{number}", source)
    policy = policy_of(Rule("all", archived=for_seconds(DAY), archived_max=cap))
    ours = wrapped(empty, "v0.26.0", name, policy, BUILD.archive_all(source, NOW))
    assert ours.reply == 60
    assert len(ours.tasks("archived")) == cap
    assert ours.hashes() == set(ours.tasks("archived")) == ours.with_ttl()


def prepare_archiving(client: redis.Redis, name: str, task_type: str = "job:x") -> Call:
    """Put the task a1 where a script takes it from, and return the call that archives it."""
    state = {"archiveCmd": "active", "archiveTaskCmd": "pending", "archiveAllCmd": "scheduled"}[name]
    add(client, "a1", state, task_type)
    if name == "archiveCmd":
        return archive(task_type=task_type)
    return BUILD.archive_one("a1", NOW) if name == "archiveTaskCmd" else BUILD.archive_all("scheduled", NOW)


one_way_of_archiving = pytest.mark.parametrize("name", ["archiveCmd", "archiveTaskCmd", "archiveAllCmd"])


@one_way_of_archiving
def test_asynq_s_own_cap_is_what_asynq_keeps(empty: redis.Redis, name: str) -> None:
    """Without a `max` the archive is as long as Asynq would leave it, but no hash is orphaned."""

    def prepare() -> Call:
        empty.flushall()
        for number in range(20):
            add(empty, f"old{number}", "archived", score=NOW - 100 + number)
        call = prepare_archiving(empty, name)
        return replace(call, args=tuple(10 if part == OWN_CAP else part for part in call.args))

    plain = original(empty, "v0.26.0", name, prepare())
    ours = wrapped(empty, "v0.26.0", name, call=prepare())
    assert ours.tasks("archived") == plain.tasks("archived")
    assert len(ours.tasks("archived")) == 9
    assert ours.hashes() == set(ours.tasks("archived"))


@one_way_of_archiving
def test_a_short_rule_never_trims_what_another_rule_keeps_longer(empty: redis.Redis, name: str) -> None:
    """Types share their queue's archive: the cutoff is that of the longest rule, hashes included."""
    policy = policy_of(
        Rule("noise", types=types("ping:*"), archived=for_seconds(60)),
        Rule("default", archived=for_seconds(7 * DAY)),
    )
    add(empty, "job6d", "archived", score=NOW - 6 * DAY)
    add(empty, "job8d", "archived", score=NOW - 8 * DAY)
    add(empty, "job7d", "archived", score=NOW - 7 * DAY)
    call = prepare_archiving(empty, name, "ping:1")
    ours = wrapped(empty, "v0.26.0", name, policy, call)
    assert ours.tasks("archived") == ["job6d", "a1"]
    assert ours.hashes() == {"job6d", "a1"}
    assert within(ours.ttl_of("a1"), 60)


@one_way_of_archiving
def test_a_type_kept_for_ever_is_passed_over_by_a_cap(empty: redis.Redis, name: str) -> None:
    """Beside a `max`, entries that a rule keeps for ever stay; the oldest of the others make room."""
    policy = policy_of(
        Rule("money", types=types("pay:*"), archived=FOREVER),
        Rule("default", archived=for_seconds(DAY), archived_max=4),
    )
    for number in range(2):
        add(empty, f"pay{number}", "archived", "pay:x", NOW - 1000 * DAY + number)
    for number in range(5):
        add(empty, f"job{number}", "archived", score=NOW - 100 + number)
        empty.expire(f"{PREFIX}job{number}", DAY)
    call = prepare_archiving(empty, name)
    ours = wrapped(empty, "v0.26.0", name, policy, call)
    assert ours.tasks("archived") == ["pay0", "pay1", "job4", "a1"]
    assert ours.hashes() == {"pay0", "pay1", "job4", "a1"}


@one_way_of_archiving
def test_a_type_without_a_rule_beside_one_kept_for_ever_gets_asynq_s_time(empty: redis.Redis, name: str) -> None:
    """It is no longer trimmed by age, so its key gets Asynq's 90 days instead."""
    policy = policy_of(Rule("money", types=types("pay:*"), archived=FOREVER))
    add(empty, "pay", "archived", "pay:x", NOW - 1000 * DAY)
    call = prepare_archiving(empty, name)
    ours = wrapped(empty, "v0.26.0", name, policy, call)
    assert ours.tasks("archived") == ["pay", "a1"]
    assert within(ours.ttl_of("a1"), OWN_SECONDS)
    assert ours.ttl_of("pay") is None


@one_way_of_archiving
def test_a_partial_rollout_never_trims_earlier_than_asynq(empty: redis.Redis, name: str) -> None:
    """While some tasks are only shadowed, Asynq's own age and number are the least that is kept."""
    policy = policy_of(Rule("all", archived=for_seconds(60), archived_max=2), rollout=FULL_ROLLOUT - 1)
    for number in range(20):
        add(empty, f"old{number}", "archived", score=NOW - 80 * DAY + number)
    add(empty, "older", "archived", score=NOW - 91 * DAY)
    call = prepare_archiving(empty, name)
    ours = wrapped(empty, "v0.26.0", name, policy, call)
    assert ours.tasks("archived") == [*(f"old{number}" for number in range(20)), "a1"]
    assert within(ours.ttl_of("a1"), 60)


def test_a_lower_cutoff_on_an_old_archive_is_reached_in_steps(empty: redis.Redis) -> None:
    """12,000 overdue tasks, with which the original fails half-way, go in two calls of bounded length."""
    with empty.pipeline(transaction=False) as pipeline:
        for number in range(12_000):
            pipeline.hset(f"{PREFIX}old{number}", mapping={"msg": b"", "state": "archived"})
            pipeline.zadd(f"{QUEUE}archived", {f"old{number}": NOW - 10 * DAY})
        pipeline.execute()
    script = learnt("v0.26.0", "archiveCmd")
    policy = policy_of(Rule("all", archived=for_seconds(DAY)))
    left = []
    for task_id in ("a1", "a2"):
        add(empty, task_id, "active")
        reply, _ = send(empty, script, archive(task_id), policy)
        assert reply == b"OK"
        left.append(empty.zcard(f"{QUEUE}archived"))
    assert left == [2001, 2]
    assert look(empty, None).hashes() == {"a1", "a2"}


@pytest.mark.parametrize("denied", ["hget", "pttl"])
def test_a_trim_that_may_not_look_keeps(server: Server, denied: str) -> None:
    """An entry that an ACL forbids to look at is not trimmed: neither entry nor hash goes without the other."""
    policy = policy_of(
        Rule("money", types=types("pay:*"), archived=FOREVER),
        Rule("all", archived=for_seconds(DAY), archived_max=1),
    )
    with server.client() as client:
        for number in range(5):
            add(client, f"old{number}", "archived", score=NOW - 100 + number)
            client.expire(f"{PREFIX}old{number}", DAY)
        add(client, "a1", "active")
        worker_without(client, [denied])
        try:
            with connect(port=server.port, username="worker", password="secret") as worker:
                reply, _ = send(worker, learnt("v0.26.0", "archiveCmd"), archive(), policy)
        finally:
            client.acl_deluser("worker")
        ours = look(client, reply)
    assert ours.reply == b"OK"
    assert len(ours.tasks("archived")) == 6
    assert ours.hashes() == set(ours.tasks("archived"))


@pytest.mark.parametrize("kept", [FOREVER, for_seconds(365 * DAY)], ids=["forever", "a year"])
@pytest.mark.parametrize("name", ["archiveCmd", "archiveTaskCmd"])
def test_a_task_outside_the_share_trims_nothing_that_is_kept_longer(
    empty: redis.Redis, name: str, kept: Retention
) -> None:
    """Asynq's own trims would go with it, at 90 days: so they are off for such a task too, which gets no TTL."""
    policy = policy_of(Rule("all", archived=kept), rollout=1)
    assert not policy.enforces(b"a1")
    add(empty, "old", "archived", score=NOW - 100 * DAY)
    ours = wrapped(empty, "v0.26.0", name, policy, prepare_archiving(empty, name))
    assert ours.tasks("archived") == ["old", "a1"]
    assert ours.hashes() == {"old", "a1"}
    assert ours.ttl_of("a1") is None


def test_a_cap_is_exact_beside_many_that_are_kept_for_ever(empty: redis.Redis) -> None:
    """However many entries are passed over, the archive does not grow beyond its `max`."""
    policy = policy_of(
        Rule("money", types=types("pay:*"), archived=FOREVER), Rule("rest", archived=for_seconds(DAY), archived_max=250)
    )
    for number in range(200):
        add(empty, f"pay{number:03}", "archived", "pay:x", NOW - 1000)
    for number in range(60):
        add(empty, f"job{number:03}", "active")
        send(empty, learnt("v0.26.0", "archiveCmd"), archive(f"job{number:03}", now=NOW + number), policy)
        assert empty.zcard(f"{QUEUE}archived") == min(250, 201 + number)
    ours = look(empty, None)
    assert ours.tasks("archived")[200:] == [f"job{number:03}" for number in range(10, 60)]
    assert ours.hashes() == set(ours.tasks("archived"))


def test_what_has_less_than_a_second_left_is_not_trimmed_early(empty: redis.Redis) -> None:
    """Scores are whole seconds: by them alone a task that is kept for a second would go at the next full one."""
    policy = policy_of(Rule("all", archived=for_seconds(1)))
    now = int(time.time())
    for task_id, milliseconds in (("early", GRACE * 1000 + 900), ("due", GRACE * 1000 - 100), ("longer", DAY * 1000)):
        add(empty, task_id, "archived", score=now - 1)
        empty.pexpire(f"{PREFIX}{task_id}", milliseconds)
    add(empty, "a1", "active")
    reply, _ = send(empty, learnt("v0.26.0", "archiveCmd"), archive(now=now), policy)
    assert reply == b"OK"
    assert look(empty, None).tasks("archived") == ["early", "a1"]


# --- clocks that disagree ---------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-2, 2])
@pytest.mark.parametrize(("name", "state"), [("archiveCmd", "active"), ("archiveTaskCmd", "pending")])
def test_a_worker_whose_clock_is_wrong_trims_no_fresh_task(
    empty: redis.Redis, name: str, state: str, hours: int
) -> None:
    """TTLs are counted by Redis's clock, so neither may a worker's decide what is old, nor make a task look so."""
    policy = policy_of(Rule("all", archived=for_seconds(3600)))
    right = int(time.time())
    for task_id, now in (("a1", right), ("b1", right + hours * 3600), ("a2", right), ("b2", right + hours * 3600)):
        add(empty, task_id, state)
        call = archive(task_id, now=now) if name == "archiveCmd" else BUILD.archive_one(task_id, now)
        send(empty, learnt("v0.26.0", name), call, policy)
    ours = look(empty, None)
    assert set(ours.tasks("archived")) == {"a1", "a2", "b1", "b2"} == ours.with_ttl()


def test_a_task_completed_by_a_clock_that_is_behind_is_not_due_at_once(empty: redis.Redis) -> None:
    """A janitor with the right time would delete it: so its entry is due by Redis's time."""
    policy = policy_of(Rule("all", completed=for_seconds(3600)))
    now = int(time.time())
    for task_id, told in (("a1", now - 7200), ("a2", now + 7200)):
        add(empty, task_id, "active")
        assert send(empty, learnt("v0.26.0", "markAsCompleteCmd"), complete(task_id, told), policy)[0] == b"OK"
    send(empty, learnt("v0.26.0", "deleteExpiredCompletedTasksCmd"), BUILD.janitor(now + 60), policy)
    ours = look(empty, None)
    assert ours.tasks("completed") == ["a1", "a2"]
    due: Any = empty.zscore(f"{QUEUE}completed", "a1")
    assert now + 3600 <= due <= time.time() + 3600
