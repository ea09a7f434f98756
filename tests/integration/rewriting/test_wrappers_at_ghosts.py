"""Wrappers where an index names tasks that are gone, or live again."""

import pytest
import redis

from asynq_ttl.policy.rules import DEFAULT_POLICY, Mode, Policy, Rule
from support.asynq_calls import OWN_SECONDS
from support.policy_calls import DAY, NOW, for_seconds, policy_of
from support.servers import Server, connect
from support.wrapped import (
    BUILD,
    PREFIX,
    QUEUE,
    add,
    archive,
    call_of,
    complete,
    ghost,
    learnt,
    look,
    message,
    send,
    worker_without,
    wrapped,
)


def test_running_all_archived_passes_over_ghosts(client: redis.Redis) -> None:
    """Entries without a hash, or whose hash is a later life of the ID, are dropped and not queued (H2)."""
    ghost(client, "gone", "archived")
    ghost(client, "a1", "archived")
    ghost(client, "c2", "archived")
    client.expire(f"{PREFIX}c2", 100)
    ours = wrapped(client, "v0.26.0", "runAllCmd")
    assert ours.reply == 2
    assert sorted(ours.tasks("pending")) == ["p1", "p2", "x1", "x2"]
    assert "gone" not in ours.hashes()
    assert ours.values[f"{PREFIX}a1"][b"state"] == b"active"
    assert ours.with_ttl() == {"c2"}


@pytest.mark.parametrize("version", ["v0.19.0", "v0.24.1", "v0.26.0"])
def test_a_ghost_of_the_same_id_keeps_no_task_from_completing(client: redis.Redis, version: str) -> None:
    """The entry of an earlier life is replaced instead of failing the script half-way (H4)."""
    ghost(client, "a1", "completed", NOW - 5)
    ours = wrapped(client, version, "markAsCompleteCmd")
    assert ours.reply == b"OK"
    assert (b"a1", float(NOW + 600)) in ours.values[f"{QUEUE}completed"]
    assert ours.values[f"{PREFIX}a1"][b"state"] == b"completed"


def test_completing_a_task_that_may_not_be_looked_at_drops_nothing(client: redis.Redis, server: Server) -> None:
    """A completed task that is reported once more keeps its entry, also where an ACL forbids to read its state."""
    worker_without(client, ["hget"])
    try:
        with connect(port=server.port, username="worker", password="secret") as worker:
            reply, _ = send(worker, learnt("v0.26.0", "markAsCompleteCmd"), complete("c2"), DEFAULT_POLICY)
    finally:
        client.acl_deluser("worker")
    assert reply == "error NOT FOUND"
    assert look(client, reply).tasks("completed") == ["c1", "c2"]


def test_the_janitor_deletes_no_live_task(client: redis.Redis) -> None:
    """Due entries of IDs that live again leave the index, however many there are; their hashes stay (H5)."""
    for number in range(250):
        add(client, f"live{number}", "pending")
        ghost(client, f"live{number}", "completed", NOW - 1000 + number)
    ghost(client, "gone", "completed", NOW - 3000)
    add(client, "due", "completed", score=NOW - 2000)
    ours = wrapped(client, "v0.26.0", "deleteExpiredCompletedTasksCmd")
    assert ours.reply == 2
    assert ours.tasks("completed") == ["c2"]
    assert {"due", "c1"}.isdisjoint(ours.hashes())
    assert {f"live{number}" for number in range(250)} <= ours.hashes()


def test_the_janitor_looks_at_a_bounded_number_of_entries(client: redis.Redis) -> None:
    """Behind more ghosts than one call may look at, no entry is deleted unseen; the next call goes on."""
    for number in range(60):
        ghost(client, f"live{number}", "completed", NOW - 1000 + number)
        client.hset(f"{PREFIX}live{number}", mapping={"msg": b"", "state": "retry"})
    call = BUILD.janitor(NOW, batch=4)
    script = learnt("v0.26.0", "deleteExpiredCompletedTasksCmd")
    replies = [send(client, script, call, DEFAULT_POLICY)[0] for _ in range(3)]
    assert replies == [0, 1, 0]
    assert {f"live{number}" for number in range(60)} <= look(client, None).hashes()


@pytest.mark.parametrize("version", ["v0.19.0", "v0.20.0", "v0.22.1", "v0.26.0"])
def test_an_id_without_a_task_does_not_stay_active(client: redis.Redis, version: str) -> None:
    """A dequeued ID whose hash is gone leaves no hash, no active entry and no lease behind."""
    client.delete(f"{QUEUE}pending")
    client.rpush(f"{QUEUE}pending", "gone")
    ours = wrapped(client, version, "dequeueCmd")
    assert ours.reply is None
    assert "gone" not in ours.hashes()
    assert sorted(ours.tasks("active")) == ["a1", "a2"]
    assert "gone" not in ours.tasks("lease")


@pytest.mark.parametrize("version", ["v0.19.0", "v0.20.0"])
def test_an_old_dequeue_passes_over_a_bounded_number_of_ids_without_a_task(client: redis.Redis, version: str) -> None:
    """At most 100 leave the queue in one go; then the original says what it says, and the next call goes on."""
    client.rpush(f"{QUEUE}pending", *(f"gone{number}" for number in range(150)))
    assert "arithmetic" in str(wrapped(client, version, "dequeueCmd").reply)
    assert client.llen(f"{QUEUE}pending") == 2 + 49
    reply = wrapped(client, version, "dequeueCmd").reply
    assert isinstance(reply, list)
    assert reply[0] == message("p1")


def test_a_poll_leaves_a_running_task_alone_whose_hash_is_gone(client: redis.Redis) -> None:
    """Its worker has the lease and can still settle it, as Asynq has it; what no worker has is dropped."""
    client.delete(f"{QUEUE}pending", f"{PREFIX}a2")
    assert wrapped(client, "v0.26.0", "dequeueCmd").tasks("active") == ["a2", "a1"]
    client.hset(f"{PREFIX}a2", "state", "active")
    assert wrapped(client, "v0.26.0", "dequeueCmd").tasks("active") == ["a1"]


def test_a_completed_task_that_is_archived_by_hand_brings_no_ttl(client: redis.Redis) -> None:
    """Where no rule says how long it is kept as archived, it is kept as Asynq keeps it."""
    client.expire(f"{PREFIX}c2", 5_000)
    ours = wrapped(
        client,
        "v0.26.0",
        "archiveTaskCmd",
        policy_of(Rule("r", completed=for_seconds(60))),
        BUILD.archive_one("c2", NOW),
    )
    assert (ours.reply, ours.ttl_of("c2"), ours.tasks("archived")) == (1, None, ["x2", "x1", "c2"])


@pytest.mark.parametrize("policy", [policy_of(), Policy((Rule("r", archived=for_seconds(1)),), mode=Mode.SHADOW)])
def test_ghosts_of_an_earlier_policy_harm_nothing_after_it(client: redis.Redis, policy: Policy) -> None:
    """Completing and archiving work as on a clean queue, and set no TTL."""
    ghost(client, "a1", "completed")
    ghost(client, "p1", "archived", NOW - 2 * OWN_SECONDS)
    for name, call in (("markAsCompleteCmd", complete()), ("archiveCmd", archive("a2"))):
        ours = look(client, *send(client, learnt("v0.26.0", name), call, policy, {"q"}))
        assert ours.reply == b"OK"
        assert ours.with_ttl() == set()
        assert "p1" in ours.hashes()
    assert "p1" not in ours.tasks("archived")


def test_deleting_all_deletes_no_live_task(client: redis.Redis) -> None:
    """Entries whose hash is a later life of the ID leave the index, and the live task stays."""
    ghost(client, "gone", "archived")
    ghost(client, "p1", "archived")
    ours = wrapped(client, "v0.26.0", "deleteAllCmd")
    assert ours.tasks("archived") == []
    assert {"x1", "x2"}.isdisjoint(ours.hashes())
    assert "p1" in ours.hashes()


def test_running_all_leaves_no_hash_without_a_message(client: redis.Redis) -> None:
    """An archived hash that has a state and no message is not run, and does not stay behind without an entry."""
    client.hset(f"{PREFIX}half", "state", "archived")
    ghost(client, "half", "archived")
    ours = wrapped(client, "v0.26.0", "runAllCmd")
    assert ours.reply == 2
    assert "half" not in ours.hashes()
    assert sorted(ours.tasks("pending")) == ["p1", "p2", "x1", "x2"]


def test_an_idle_poll_leaves_active_tasks_alone(client: redis.Redis) -> None:
    """With nothing pending or the queue paused, a dequeue changes nothing."""
    client.set(f"{QUEUE}paused", "1")
    before = look(client, None)
    ours = wrapped(client, "v0.26.0", "dequeueCmd")
    assert ours.reply is None
    assert ours.values == before.values


def test_archiving_all_leaves_no_entry_without_a_message(client: redis.Redis) -> None:
    """IDs whose hash is gone count as Asynq counts them, but neither entry nor empty hash is left."""
    ghost(client, "gone", "scheduled")
    ours = wrapped(client, "v0.26.0", "archiveAllCmd")
    assert ours.reply == 3
    assert "gone" not in ours.tasks("archived")
    assert "gone" not in ours.hashes()


def test_trimming_removes_only_the_entry_of_an_id_that_lives_again(client: redis.Redis) -> None:
    """An entry past the cutoff whose ID lives again goes without its hash (H6)."""
    ghost(client, "p1", "archived", NOW - 1000 * DAY)
    for name in ("archiveCmd", "archiveTaskCmd", "archiveAllCmd"):
        call = BUILD.archive_one("p2", NOW) if name == "archiveTaskCmd" else call_of(name)
        ours = wrapped(client, "v0.26.0", name, call=call)
        assert "p1" not in ours.tasks("archived")
        assert "p1" in ours.hashes()
        ghost(client, "p1", "archived", NOW - 1000 * DAY)
