"""Each wrapper beside its original on real servers: same reply, same keyspace but for TTLs and the policy."""

import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.policy.rules import (
    DEFAULT_POLICY,
    FOREVER_SCORE,
    FULL_ROLLOUT,
    Keep,
    Mode,
    Policy,
    Retention,
    Rule,
    State,
)
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from support.asynq_calls import OWN_CAP, OWN_SECONDS, AsynqCalls, Call
from support.asynq_source import scripts
from support.policy_calls import DAY, DELETE, FOREVER, GRACE, NOW, OWN, for_seconds, policy_of, types
from support.servers import Server, connect, start_redis
from support.task_message import encode_task

QUEUE = "asynq:{q}:"
PREFIX = f"{QUEUE}t:"
# The day's counters have to stay for a comparison: the clock of these calls is years behind.
BUILD = AsynqCalls(lambda call: call, counters_until=int(time.time()) + 90 * DAY)


# --- the parts of a test ----------------------------------------------------------------------------------


def message(task_id: str, task_type: str = "job:x", retention_seconds: int = 0) -> bytes:
    """Return the message of a task."""
    return encode_task(task_type, task_id, "q", retention_seconds)


def add(
    client: redis.Redis,
    task_id: str,
    state: str,
    task_type: str = "job:x",
    score: int = NOW,
) -> None:
    """Put a task into a state as Asynq would, with a message and the fields that old releases read."""
    content: dict[Any, Any] = {
        "msg": message(task_id, task_type),
        "state": state,
        "timeout": "1800",
        "deadline": "0",
    }
    client.hset(PREFIX + task_id, mapping=content)
    if state in ("pending", "active"):
        client.lpush(QUEUE + state, task_id)
    elif state == "aggregating":
        client.hset(PREFIX + task_id, "group", "g1")
        client.zadd(f"{QUEUE}g:g1", {task_id: score})
        client.sadd(f"{QUEUE}groups", "g1")
    else:
        client.zadd(QUEUE + state, {task_id: score})
    if state == "active":
        client.zadd(f"{QUEUE}lease", {task_id: score})


def ghost(client: redis.Redis, task_id: str, index: str, score: int = NOW) -> None:
    """Put an ID whose hash is gone into an index."""
    client.zadd(QUEUE + index, {task_id: score})


def complete(task_id: str = "a1", now: int = NOW, *, unique: bool = False) -> Call:
    """Complete an active task."""
    told = message(task_id, retention_seconds=600)
    return BUILD.complete(task_id, told, 600, "u1" if unique else None, now)


def archive(task_id: str = "a1", task_type: str = "job:x", now: int = NOW, cap: int = OWN_CAP) -> Call:
    """Archive an active task, as a worker does."""
    return BUILD.archive(task_id, message(task_id, task_type), now, cap)


CALLS: dict[str, Call] = {
    call.script: call
    for call in (
        complete(),
        complete(unique=True),
        archive(),
        BUILD.archive_one("p1", NOW),
        BUILD.archive_all("scheduled", NOW),
        BUILD.archive_all("pending", NOW),
        BUILD.run_one("x1"),
        BUILD.run_all("archived"),
        BUILD.dequeue(NOW),
        BUILD.janitor(NOW),
        BUILD.delete_all("archived"),
    )
}
GROUP_CALLS: dict[str, Call] = {call.script: call for call in (BUILD.archive_group("g1", NOW), BUILD.run_group("g1"))}
# Key order and texts changed at each of these; groups came with v0.23.
CASES = [
    *((version, name) for version in ("v0.19.0", "v0.22.1", "v0.24.1", "v0.26.0") for name in CALLS),
    *((version, name) for version in ("v0.24.1", "v0.26.0") for name in GROUP_CALLS),
]
each_script = pytest.mark.parametrize(("version", "name"), CASES, ids=lambda part: part)

# The tasks that each call moves into a terminal state, and those that it makes live again.
SETTLED = {
    "markAsCompleteCmd": {"a1"},
    "markAsCompleteUniqueCmd": {"a1"},
    "archiveCmd": {"a1"},
    "archiveTaskCmd": {"p1"},
    "archiveAllCmd": {"s1", "s2"},
    "archiveAllPendingCmd": {"p1", "p2"},
    "archiveAllAggregatingCmd": {"g1"},
}
REVIVED = {"runTaskCmd": {"x1"}, "runAllCmd": {"x1", "x2"}, "dequeueCmd": {"p1"}}


def call_of(name: str) -> Call:
    """Return the usual call of a script."""
    return {**CALLS, **GROUP_CALLS}[name]


def populate(client: redis.Redis) -> None:
    """Fill a queue with tasks in every state."""
    with client.pipeline(transaction=False) as pipeline:
        for task_id, state in (("a1", "active"), ("a2", "active"), ("p1", "pending"), ("p2", "pending")):
            add(pipeline, task_id, state)
        for task_id, state in (("s1", "scheduled"), ("s2", "scheduled"), ("r1", "retry"), ("g1", "aggregating")):
            add(pipeline, task_id, state)
        add(pipeline, "x1", "archived", score=NOW - DAY)
        add(pipeline, "x2", "archived", score=NOW - 2 * DAY)
        add(pipeline, "c1", "completed", score=NOW - 1)
        add(pipeline, "c2", "completed", score=NOW + DAY)
        pipeline.set(f"{QUEUE}unique:u1", "a1")
        pipeline.hset(f"{PREFIX}a1", "unique_key", f"{QUEUE}unique:u1")
        pipeline.execute()


@dataclass
class Outcome:
    """What a call answered, and the keyspace after it."""

    reply: object
    values: dict[str, Any]
    ttls: dict[str, int]
    rewrite: Rewrite | None = field(default=None)

    def tasks(self, index: str) -> list[str]:
        """Return the IDs in an index or list, in order."""
        found = self.values.get(QUEUE + index, [])
        return [entry[0].decode() if isinstance(entry, tuple) else entry.decode() for entry in found]

    def hashes(self) -> set[str]:
        """Return the IDs of the task keys."""
        return {key.removeprefix(PREFIX) for key in self.values if key.startswith(PREFIX)}

    def with_ttl(self) -> set[str]:
        """Return the IDs of the task keys that have a TTL."""
        return {key.removeprefix(PREFIX) for key in self.ttls if key.startswith(PREFIX)}

    def ttl_of(self, task_id: str) -> int | None:
        """Return the TTL of a task key in milliseconds; None without one."""
        return self.ttls.get(PREFIX + task_id)


def look(client: redis.Redis, reply: object, rewrite: Rewrite | None = None) -> Outcome:
    """Read the whole keyspace."""
    keys = sorted(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipeline:
        readers: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": pipeline.hgetall,
            b"list": lambda key: pipeline.lrange(key, 0, -1),
            b"zset": lambda key: pipeline.zrange(key, 0, -1, withscores=True),
            b"set": pipeline.smembers,
            b"string": pipeline.get,
        }
        for key in keys:
            pipeline.type(key)
        for key, kind in zip(keys, pipeline.execute(), strict=True):
            readers[kind](key)
            pipeline.pttl(key)
        found = pipeline.execute()
    names = [key.decode() for key in keys]
    values = dict(zip(names, found[::2], strict=True))
    ttls = {name: left for name, left in zip(names, found[1::2], strict=True) if left != -1}
    return Outcome(reply, values, ttls, rewrite)


def ask(client: redis.Redis, text: bytes, call: Call) -> object:
    """Call a script; an error is an answer too. The script's own SHA does not count in it."""
    sha = client.script_load(text)
    try:
        return client.execute_command("EVALSHA", sha, *call.words)
    except redis.ResponseError as error:
        return f"error {error}".replace(sha, "<sha>")


def original(client: redis.Redis, version: str, name: str, call: Call | None = None) -> Outcome:
    """Call a script as it is."""
    return look(client, ask(client, scripts(version)[name], call or call_of(name)))


def learnt(version: str, name: str) -> Script:
    """Return a script as the sidecar has learnt it."""
    return ScriptRegistry().learn(scripts(version)[name])


def send(
    client: redis.Redis, script: Script, call: Call, policy: Policy, healed: Collection[str] = ()
) -> tuple[object, Rewrite | None]:
    """Call a script as the sidecar would have it called by a policy; `healed` are queues with an earlier one."""
    command = [b"EVALSHA", script.sha, *call.encoded]
    rewrite = Rewriter(policy, set(healed)).rewrite(script, command, len(call.keys))
    if rewrite is None or not rewrite.enforced:
        return ask(client, script.text, call), rewrite
    args = list(call.args)
    for number, value in rewrite.argv:
        args[number - 1] = value
    tail = () if rewrite.tail is None else (rewrite.tail,)
    return ask(client, script.wrapper, replace(call, args=(*args, *tail))), rewrite


def wrapped(
    client: redis.Redis, version: str, name: str, policy: Policy = DEFAULT_POLICY, call: Call | None = None
) -> Outcome:
    """Call a script's wrapper by a policy."""
    return look(client, *send(client, learnt(version, name), call or call_of(name), policy))


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Connect to a server on which one queue has tasks in every state."""
    with server.client() as client:
        populate(client)
        yield client


@pytest.fixture
def empty(server: Server) -> Iterator[redis.Redis]:
    """Connect to an empty server."""
    with server.client() as client:
        yield client


def within(milliseconds: int | None, retention_seconds: int) -> bool:
    """Say whether a TTL is in [retention, retention + grace]."""
    return milliseconds is not None and retention_seconds <= milliseconds / 1000 <= retention_seconds + GRACE


def both(
    server: Server, version: str, name: str, policy: Policy, prepare: Callable[[redis.Redis], object]
) -> tuple[Outcome, Outcome]:
    """Call a script and its wrapper, each on the same prepared queue, and return what came of it."""
    with server.client() as client:
        populate(client)
        prepare(client)
        plain = original(client, version, name)
        client.flushall()
        populate(client)
        prepare(client)
        return plain, wrapped(client, version, name, policy)


# --- the same reply, the same keyspace --------------------------------------------------------------------


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


def worker_without(client: redis.Redis, commands: list[str]) -> None:
    """Give a user every command but these."""
    denied = [f"-{command}" for command in commands]
    client.acl_setuser("worker", True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=denied)


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


# --- ghosts -----------------------------------------------------------------------------------------------


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


# --- trimming ---------------------------------------------------------------------------------------------

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


# --- what it costs ----------------------------------------------------------------------------------------


ALL_HOUR = policy_of(Rule("all", archived=for_seconds(3600), completed=for_seconds(3600)))
SETS_A_TTL = {"pexpire": 1}
TRIMS_NOTHING = {"zcount": 1, "zrange": 1}


def asked(client: redis.Redis, do: Callable[[], object]) -> Counter[str]:
    """Return which commands something makes Redis execute, and how often."""
    client.config_resetstat()
    assert "error" not in str(do())
    told: Any = client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()})


@pytest.mark.parametrize("version", ["v0.19.0", "v0.26.0"])
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("markAsCompleteCmd", SETS_A_TTL),
        ("archiveCmd", {**SETS_A_TTL, **TRIMS_NOTHING}),
        ("archiveTaskCmd", {**SETS_A_TTL, **TRIMS_NOTHING, "hget": 1, "hexists": 1}),
        ("archiveAllCmd", {**TRIMS_NOTHING, "pexpire": 2, "hexists": 2, "zrange": 2}),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_what_a_wrapper_asks_redis(
    client: redis.Redis, version: str, name: str, more: dict[str, int], *, known: bool
) -> None:
    """Where the clocks agree, no time is asked for; and no state, as a success of these scripts says it."""
    now = int(time.time())
    calls = {
        "markAsCompleteCmd": complete(now=now),
        "archiveCmd": archive(now=now),
        "archiveTaskCmd": BUILD.archive_one("p1", now),
        "archiveAllCmd": BUILD.archive_all("scheduled", now),
    }
    script = learnt(version, name)
    plain = asked(client, lambda: ask(client, script.text, calls[name]))
    client.flushall()
    populate(client)
    for index in ("archived", "completed"):
        client.delete(QUEUE + index)
    if known:
        script.clock.note(now + 0.9, 0.0, 0.0, float)
    ours = asked(client, lambda: send(client, script, calls[name], ALL_HOUR))
    if name == "markAsCompleteCmd" and version == "v0.19.0":
        more = {**more, "zscore": 1}
    ours.subtract(plain)
    if version == "v0.26.0" and name == "archiveCmd":
        ours.update({"zrem": 1, "del": 2})  # what the original has trimmed
    assert {name: count for name, count in ours.items() if count} == more | ({} if known else {"time": 1})


@pytest.mark.parametrize("known", [True, False])
def test_a_ghost_in_the_way_costs_no_lease(client: redis.Redis, *, known: bool) -> None:
    """The script that was refused runs again: nothing of the first run is left, and counters count once (H4)."""
    now = int(time.time())
    ghost(client, "a1", "completed", now - 5)
    script = learnt("v0.26.0", "markAsCompleteCmd")
    if known:
        script.clock.note(now + 0.9, 0.0, 0.0, float)
    ours = look(client, *send(client, script, complete(now=now), ALL_HOUR))
    assert ours.reply == b"OK"
    assert ours.tasks("active") == ["a2"]
    assert ours.tasks("lease") == ["a2"]
    assert ours.values[f"{QUEUE}processed"] == b"1"
    assert (b"a1", float(now + 3600)) in ours.values[f"{QUEUE}completed"]
    assert ours.with_ttl() == {"a1"}


def test_a_completed_task_in_the_way_is_no_ghost(client: redis.Redis) -> None:
    """An ID that is active, and whose hash is completed, is left as Asynq leaves it."""
    client.zadd(f"{QUEUE}completed", {"a1": NOW})
    client.hset(f"{PREFIX}a1", "state", "completed")
    ours = wrapped(client, "v0.26.0", "markAsCompleteCmd", ALL_HOUR)
    assert "INTERNAL" in str(ours.reply)
    assert "a1" in ours.tasks("completed")
    assert ours.with_ttl() == set()


# --- forks, and what Asynq may become ---------------------------------------------------------------------


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


# --- two pickers, one answer ------------------------------------------------------------------------------

GLOB_PIECES = [*"*?ab-^%.", "é", "日", "%d", "[ab]", "[!a]", "[a-c]", "[]-]", "[!^-]", "[%-+]"]
GLOBS = st.one_of(
    st.lists(st.sampled_from(GLOB_PIECES), min_size=1, max_size=7).map("".join),
    st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=6),
)
TYPES = st.one_of(
    st.text(alphabet="abcé日-^%.]+d\n\0", max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)
# A server takes about a millisecond for an example, a slow one may take longer.
on_real_servers = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def compiled(text: str) -> Glob | None:
    """Return a glob, None for a text that is none."""
    try:
        return compile_glob(text)
    except GlobError:
        return None


FIND = """
local found = {}
for i = 2, #ARGV do
  found[i - 1] = string.find(ARGV[i], ARGV[1]) and 1 or 0
end
return found
"""


@on_real_servers
@given(glob=GLOBS, texts=st.lists(TYPES, min_size=1, max_size=20))
@example(glob="*" + "?" * 255, texts=["é" * 300, "日" * 254])
@example(glob="[!a]*", texts=["\x00", "\x7f", "\x80", "\xff", "\U0010ffff"])
def test_lua_matches_what_python_matches(server: Server, glob: str, texts: list[str]) -> None:
    """The Lua pattern of a glob finds the whole of exactly those texts that the glob matches."""
    one = compiled(glob)
    if one is None:
        return
    with server.client() as client:
        found = client.eval(FIND, 0, one.lua, *texts)
    assert found == [int(one.matches(text)) for text in texts]


RETENTIONS = st.one_of(st.integers(1, 100 * 365 * DAY).map(for_seconds), st.sampled_from([OWN, FOREVER, DELETE]))


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Make a policy of up to four rules by type, perhaps with one for every type behind them."""
    rules = []
    for number in range(draw(st.integers(0, 4))):
        globs = [glob for text in draw(st.lists(GLOBS, min_size=1, max_size=3)) if (glob := compiled(text))]
        if globs:
            rules.append(Rule(f"rule{number}", types=tuple(globs), archived=draw(RETENTIONS)))
    if not rules or draw(st.booleans()):
        rules.append(Rule("rest", archived=draw(RETENTIONS)))
    share = draw(st.one_of(st.just(FULL_ROLLOUT), st.integers(1, FULL_ROLLOUT)))
    return policy_of(*rules, rollout=share)


def seconds_by_policy(policy: Policy, task_id: str, task_type: str) -> int | None:
    """Return how long the policy keeps an archived task; 0 not at all, None without a limit on its key."""
    if not policy.enforces(task_id.encode()):
        return None
    verdict = policy.decide("q", task_type, State.ARCHIVED)
    if verdict is not None:
        return verdict.retention.resolve(OWN_SECONDS)
    said = [rule.archived for rule in policy.rules if rule.archived is not None]
    outlasting = any(kept.keep is Keep.FOREVER or kept.seconds > OWN_SECONDS for kept in said)
    return OWN_SECONDS if outlasting else None


@on_real_servers
@given(
    policy=policies(),
    tasks=st.dictionaries(st.text("abcdefgh012", min_size=1, max_size=6), TYPES, max_size=12),
)
def test_the_rule_picked_in_redis_is_the_one_the_policy_decides_on(
    server: Server, policy: Policy, tasks: dict[str, str]
) -> None:
    """For any rules, types, share and IDs, bulk archiving gives each task what `Policy.decide` says."""
    with server.client() as client:
        client.flushdb()
        for task_id, task_type in tasks.items():
            add(client, task_id, "scheduled", task_type)
        ours = wrapped(client, "v0.26.0", "archiveAllCmd", policy)
        assert ours.reply == len(tasks)
    for task_id, task_type in tasks.items():
        seconds = seconds_by_policy(policy, task_id, task_type)
        assert (task_id in ours.hashes()) is (seconds != 0), task_id
        assert (task_id in ours.tasks("archived")) is (seconds != 0), task_id
        left = ours.ttl_of(task_id)
        assert within(left, seconds) if seconds else left is None, (task_id, seconds, left)


@on_real_servers
@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.builds(lambda head, tail: head + tail, st.just(message("a1")), st.binary(max_size=12)),
    )
)
@example(data=b"\x80" * 200)
@example(data=b"\x0a" + b"\xff" * 200)
@example(data=message("a1")[:-1])
def test_a_message_that_does_not_decode_fails_nothing(server: Server, data: bytes) -> None:
    """Whatever bytes a task has for a message, bulk archiving moves it and answers as the original does."""
    with server.client() as client:
        client.flushdb()
        add(client, "s1", "scheduled")
        client.hset(f"{PREFIX}s1", "msg", data)
        policy = policy_of(Rule("some", types=types("*x*", "???"), archived=for_seconds(60)))
        ours = wrapped(client, "v0.26.0", "archiveAllCmd", policy)
    assert ours.reply == 1
    assert ours.tasks("archived") == ["s1"]
    assert ours.values[f"{PREFIX}s1"][b"msg"] == data


def test_every_kind_is_tried_here() -> None:
    """No kind of wrapper goes without these tests; modules of their own have the others."""
    kinds = {learnt(version, name).kind for version, name in CASES}
    assert kinds == set(Kind) - {Kind.UNKNOWN, Kind.OTHER, Kind.BY_EFFECT, Kind.DONE, Kind.ENQUEUE, Kind.RECORD}
