"""Each wrapper beside its original on real servers: same reply, same keyspace but for TTLs and the policy."""

import re
from dataclasses import replace

import pytest
import redis

from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.policy.rules import DEFAULT_POLICY, FOREVER_SCORE, Rule
from asynq_ttl.rewriting.registry import ScriptRegistry
from support.asynq_source import scripts
from support.policy_calls import DAY, DELETE, FOREVER, NOW, for_seconds, policy_of
from support.servers import Server, connect
from support.wrapped import (
    CALLS,
    CASES,
    PREFIX,
    QUEUE,
    REVIVED,
    SETTLED,
    add,
    ask,
    both,
    call_of,
    each_script,
    learnt,
    look,
    original,
    populate,
    send,
    within,
    worker_without,
    wrapped,
)


@each_script
def test_a_wrapper_answers_and_does_what_its_original_does(server: Server, version: str, name: str) -> None:
    """With Asynq's own times nothing differs but the TTLs of the tasks that ended."""
    plain, ours = both(server, version, name, DEFAULT_POLICY, lambda client: client.time())
    # No group is a terminal index, so running one again needs nothing.
    assert (ours.rewrite is not None) is (name != "runAllAggregatingCmd")
    assert ours.reply == plain.reply
    assert ours.values == plain.values
    assert ours.with_ttl() == SETTLED.get(name, set())
    assert {key for key in ours.ttls if not key.startswith(PREFIX)} == set(plain.ttls)


@each_script
def test_nothing_to_do_is_answered_alike(server: Server, version: str, name: str) -> None:
    """On an empty server a wrapper answers what its original answers, and leaves the server as empty."""
    with server.client() as client:
        plain = original(client, version, name)
        client.flushall()
        ours = wrapped(client, version, name)
    assert ours.reply == plain.reply
    assert (ours.values, ours.ttls) == (plain.values, plain.ttls)


@each_script
def test_a_runtime_error_is_the_original_s(server: Server, version: str, name: str) -> None:
    """Whichever key holds what it should not: same error with the same line, and same keyspace after it."""
    for key in call_of(name).keys:

        def spoil(client: redis.Redis, key: str = key) -> None:
            client.delete(key)
            if key.endswith(("processed", "failed", "2023-11-14", "u1", "paused")):
                client.rpush(key, "not a number")
            else:
                client.set(key, "not a collection")

        plain, ours = both(server, version, name, DEFAULT_POLICY, spoil)
        assert ours.reply == plain.reply, key
        assert ours.values == plain.values, key
        server.reset()


@each_script
def test_line_numbers_are_those_of_the_original(server: Server, version: str, name: str) -> None:
    """A fault on the script's last line is reported on that line."""
    text = scripts(version)[name].rstrip()
    broken = re.sub(rb"return (.*)\Z", rb"return no_such_function(\1)", text)
    script = ScriptRegistry().learn(broken)
    answers = []
    with server.client() as client:
        for which in ("original", "wrapper"):
            client.flushall()
            populate(client)
            client.delete(f"{QUEUE}pending")
            add(client, "p1", "scheduled")
            if which == "original":
                answers.append(ask(client, broken, call_of(name)))
            else:
                answers.append(send(client, script, call_of(name), DEFAULT_POLICY)[0])
    last = len(text.split(b"\n"))
    assert f"user_script:{last}: " in str(answers[0])
    assert answers[1] == answers[0]


@each_script
def test_an_acl_that_denies_what_a_wrapper_adds_fails_no_task(server: Server, version: str, name: str) -> None:
    """With only the commands of the original allowed, the task moves as without a sidecar."""
    script = learnt(version, name)
    used, all_used = (
        {found.decode() for found in re.findall(rb"""call\(["'](\w+)["']""", text)}
        for text in (script.text, script.wrapper)
    )
    added = sorted(all_used - used)
    with server.client() as client:
        worker_without(client, added)
        try:
            populate(client)
            plain = original(client, version, name)
            client.flushall()
            populate(client)
            with connect(port=server.port, username="worker", password="secret") as worker:
                reply, _ = send(worker, script, call_of(name), DEFAULT_POLICY)
            ours = look(client, reply)
        finally:
            client.acl_deluser("worker")
    assert added
    assert ours.reply == plain.reply
    assert ours.values == plain.values


@pytest.mark.parametrize("name", [name for name in SETTLED if name in CALLS])
@pytest.mark.parametrize("version", ["v0.19.0", "v0.26.0"])
def test_a_task_that_is_not_there_is_not_found_and_gets_nothing(client: redis.Redis, version: str, name: str) -> None:
    """An unsuccessful reply passes as it is, and nothing gets a TTL."""
    call = call_of(name)
    keys = tuple(key.replace("t:a1", "t:nobody").replace("t:p1", "t:nobody") for key in call.keys)
    args = ("nobody", *call.args[1:]) if call.args[0] in ("a1", "p1") else call.args
    client.delete(f"{QUEUE}scheduled", f"{QUEUE}pending")
    before = look(client, None)
    ours = wrapped(client, version, name, call=replace(call, keys=keys, args=args))
    assert ours.reply in ("error NOT FOUND", 0)
    assert (ours.values, ours.ttls) == (before.values, before.ttls)


# --- what the policy says ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] in SETTLED])
def test_a_task_lives_for_its_retention_and_at_most_the_grace_longer(
    client: redis.Redis, version: str, name: str
) -> None:
    """The key's TTL is in [retention, retention + grace]; a completed task's expiry is set to match."""
    rule = Rule("all", completed=for_seconds(7200), archived=for_seconds(3600))
    ours = wrapped(client, version, name, policy_of(rule))
    completed = name.startswith("mark")
    assert ours.with_ttl() == SETTLED[name]
    assert all(within(ours.ttl_of(task_id), 7200 if completed else 3600) for task_id in SETTLED[name])
    if completed:
        assert (b"a1", float(NOW + 7200)) in ours.values[f"{QUEUE}completed"]


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] in SETTLED])
def test_kept_for_ever_means_no_ttl(client: redis.Redis, version: str, name: str) -> None:
    """A task kept for ever loses a TTL it had, and no trim and no janitor removes it."""
    for task_id in SETTLED[name]:
        client.expire(PREFIX + task_id, 100)
    add(client, "old", "archived", score=NOW - 1000 * DAY)
    ours = wrapped(client, version, name, policy_of(Rule("all", completed=FOREVER, archived=FOREVER)))
    assert ours.with_ttl() == set()
    assert "old" in ours.tasks("archived")
    if name.startswith("mark"):
        assert (b"a1", float(FOREVER_SCORE)) in ours.values[f"{QUEUE}completed"]


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] in SETTLED])
def test_thrown_away_means_hash_entry_and_lock(client: redis.Redis, version: str, name: str) -> None:
    """Nothing of a deleted task is left; a lock goes with it if the task holds it, else it stays."""
    settled = sorted(SETTLED[name])
    for number, task_id in enumerate(settled):
        client.hset(PREFIX + task_id, "unique_key", f"{QUEUE}unique:{task_id}")
        client.set(f"{QUEUE}unique:{task_id}", task_id if number == 0 else "somebody else")
    ours = wrapped(client, version, name, policy_of(Rule("all", completed=DELETE, archived=DELETE)))
    assert not ours.hashes() & SETTLED[name]
    assert not {*ours.tasks("archived"), *ours.tasks("completed")} & SETTLED[name]
    if not name.startswith("mark"):
        assert f"{QUEUE}unique:{settled[0]}" not in ours.values
    assert all(f"{QUEUE}unique:{task_id}" in ours.values for task_id in settled[1:])


@pytest.mark.parametrize(("version", "name"), [case for case in CASES if case[1] in REVIVED])
def test_what_lives_again_carries_no_ttl(client: redis.Redis, version: str, name: str) -> None:
    """A task that is run again or dequeued loses its TTL in the same execution (H3)."""
    for task_id in ("x1", "x2", "p1", "p2", "c2"):
        client.expire(PREFIX + task_id, 100)
    ours = wrapped(client, version, name)
    assert {"x1", "x2", "p1", "p2", "c2"} - ours.with_ttl() == REVIVED[name]


def test_every_kind_is_tried_here() -> None:
    """No kind of wrapper goes without these tests; modules of their own have the others."""
    kinds = {learnt(version, name).kind for version, name in CASES}
    assert kinds == set(Kind) - {Kind.UNKNOWN, Kind.OTHER, Kind.BY_EFFECT, Kind.DONE, Kind.ENQUEUE, Kind.RECORD}
