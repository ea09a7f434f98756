"""Wrappers of forks, of what Asynq may become, and where a user or a server does not let a script do everything."""

import pytest
import redis

from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.policy.rules import DEFAULT_POLICY, Rule
from asynq_ttl.rewriting.registry import ScriptRegistry
from support.asynq_source import scripts
from support.policy_calls import DAY, DELETE, NOW, for_seconds, policy_of
from support.servers import Server, connect, start_redis
from support.wrapped import (
    BUILD,
    PREFIX,
    QUEUE,
    add,
    archive,
    call_of,
    learnt,
    look,
    message,
    populate,
    send,
    worker_without,
)


@pytest.mark.parametrize("answer", [b"return 1", b"return", b'return redis.status_reply("DONE")'])
@pytest.mark.parametrize("name", ["archiveCmd", "markAsCompleteCmd"])
def test_the_task_s_state_says_whether_it_has_ended(client: redis.Redis, name: str, answer: bytes) -> None:
    """A fork may answer as it likes: the task gets its TTL, and the archive is trimmed, as the script does no more."""
    text = scripts("v0.26.0")[name].replace(b'return redis.status_reply("OK")', answer)
    add(client, "ancient", "archived", score=NOW - 100 * DAY)
    send(client, ScriptRegistry().learn(text), call_of(name), DEFAULT_POLICY)
    ours = look(client, None)
    assert ours.with_ttl() == {"a1"}
    assert ("ancient" in ours.hashes()) == (name != "archiveCmd")


def test_a_task_that_a_fork_did_not_archive_gets_no_ttl(client: redis.Redis) -> None:
    """A script that archives under some condition, and answers the same without it, leaves the task as it is."""
    text = scripts("v0.26.0")["archiveCmd"]
    client.hset(f"{PREFIX}a1", "precious", "1")
    keep = b'if redis.call("HEXISTS", KEYS[1], "precious") == 1 then return redis.status_reply("OK") end\n'
    reply, _ = send(client, ScriptRegistry().learn(keep + text), call_of("archiveCmd"), DEFAULT_POLICY)
    assert reply == b"OK"
    assert look(client, None).with_ttl() == set()


def test_a_state_that_is_not_known_says_nothing(client: redis.Redis) -> None:
    """Should a state be renamed, no entry is taken for a ghost: not in the archive, nor where all are run."""
    client.hset(f"{PREFIX}x2", "state", "dead")
    client.zadd(f"{QUEUE}archived", {"x2": NOW - 100 * DAY})
    send(client, learnt("v0.26.0", "archiveCmd"), archive(), DEFAULT_POLICY)
    assert look(client, None).tasks("archived") == ["x2", "x1", "a1"]
    reply, _ = send(client, learnt("v0.26.0", "runAllCmd"), BUILD.run_all("archived"), DEFAULT_POLICY)
    assert reply == 3
    assert "x2" in look(client, None).tasks("pending")


def test_running_all_deletes_nothing_whose_state_is_not_known(client: redis.Redis) -> None:
    """Another program's task may well be one without Asynq's fields: it is run as without a sidecar."""
    client.delete(f"{PREFIX}x2")
    client.hset(f"{PREFIX}x2", mapping={"payload": "theirs", "state": "dead"})
    reply, _ = send(client, learnt("v0.26.0", "runAllCmd"), BUILD.run_all("archived"), DEFAULT_POLICY)
    ours = look(client, reply)
    assert ours.reply == 2
    assert ours.values[f"{PREFIX}x2"] == {b"payload": b"theirs", b"state": b"pending"}
    assert "x2" in ours.tasks("pending")


def test_a_dequeue_of_several_takes_the_ttl_off_each(empty: redis.Redis) -> None:
    """A dequeue that takes a batch answers with a list; each task in it is live."""
    text = scripts("v0.26.0")["dequeueCmd"].replace(b"\nreturn nil", b"\nreturn {}")
    text = text.replace(b"local id =", b"local found = {} for _ = 1, 3 do local id =")
    text = text.replace(b'return redis.call("HGET", key, "msg")', b'found[#found + 1] = redis.call("HGET", key, "msg")')
    text = text.replace(b'key, "msg")\n\tend', b'key, "msg")\n\tend end return found')
    script = ScriptRegistry().learn(text)
    assert script.kind is Kind.DEQUEUE
    for number in range(5):
        add(empty, f"p{number}", "pending")
        empty.expire(f"{PREFIX}p{number}", 1000)
    reply, _ = send(empty, script, BUILD.dequeue(NOW), DEFAULT_POLICY)
    assert reply == [message(f"p{number}") for number in range(3)]
    assert look(empty, None).with_ttl() == {"p3", "p4"}


def test_a_script_with_a_shebang_is_wrapped(valkey_server: Server) -> None:
    """Redis 7 and Valkey take `#!lua` at the very start, and count it as the first line."""
    with valkey_server.client() as client:
        populate(client)
        script = ScriptRegistry().learn(b"#!lua flags=allow-oom\n" + scripts("v0.26.0")["archiveCmd"])
        assert send(client, script, archive(), DEFAULT_POLICY)[0] == b"OK"
        assert look(client, None).with_ttl() == {"a1"}


@pytest.mark.parametrize("name", ["archiveCmd", "markAsCompleteCmd"])
def test_what_may_not_be_deleted_keeps_its_entry(server: Server, name: str) -> None:
    """A user who may not DEL leaves no orphan: where the hash stays, so does the entry."""
    policy = policy_of(Rule("all", archived=DELETE, completed=DELETE))
    with server.client() as client:
        populate(client)
        worker_without(client, ["del"])
        try:
            with connect(port=server.port, username="worker", password="secret") as worker:
                reply, _ = send(worker, learnt("v0.26.0", name), call_of(name), policy)
        finally:
            client.acl_deluser("worker")
        ours = look(client, reply)
    assert ours.reply == b"OK"
    assert {"a1", "x1", "x2", "c1", "c2"} - set(ours.tasks("archived")) - set(ours.tasks("completed")) == set()


def test_scripts_that_are_replicated_whole_are_wrapped_too() -> None:
    """An old Redis that replicates scripts, not their effects, lets none write after it has asked for a time."""
    with start_redis("--lua-replicate-commands", "no") as server, server.client() as client:
        populate(client)
        policy = policy_of(Rule("all", archived=for_seconds(3600), archived_max=1, completed=for_seconds(3600)))
        for name in ("markAsCompleteCmd", "archiveTaskCmd", "archiveAllPendingCmd", "runAllCmd", "dequeueCmd"):
            reply, _ = send(client, learnt("v0.26.0", name), call_of(name), policy)
            assert "error" not in str(reply), (name, reply)
        ours = look(client, None)
        assert ours.with_ttl() >= {"a1"}
        assert ours.tasks("archived") == []
        assert len(ours.tasks("active")) == 2
