"""A queue with tasks in every state, Asynq's scripts and their wrappers called on it, and what comes of a call."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from support.asynq_calls import OWN_CAP, AsynqCalls, Call
from support.asynq_source import scripts
from support.policy_calls import DAY, GRACE, NOW
from support.servers import Server
from support.task_message import encode_task

QUEUE = "asynq:{q}:"
PREFIX = f"{QUEUE}t:"
# The day's counters have to stay for a comparison: the clock of these calls is years behind.
BUILD = AsynqCalls(lambda call: call, counters_until=int(time.time()) + 90 * DAY)


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


def worker_without(client: redis.Redis, commands: list[str]) -> None:
    """Give a user every command but these."""
    denied = [f"-{command}" for command in commands]
    client.acl_setuser("worker", True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=denied)
