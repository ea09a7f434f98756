"""Whatever goes wrong inside the sidecar, the task still moves, and a counter and a warning say so."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis_py

from asynq_ttl.policy.archive_limits import ArchiveLimits
from asynq_ttl.policy.rules import Policy, State, Verdict
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.sidecar.admin.status import scripts_not_understood
from asynq_ttl.sidecar.sidecar import Sidecar
from support.asynq_calls import CALLS
from support.asynq_source import scripts
from support.in_process import make_sidecar
from support.servers import Server
from support.task_message import encode_task

POLICY = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]", "test")
MESSAGE = encode_task("x", retention_seconds=100)


@asynccontextmanager
async def sidecar_client(server: Server, policy: Policy) -> AsyncIterator[tuple[Sidecar, "redis_py.Redis"]]:
    """Run a sidecar in this loop; yield it and a client that goes through it, with an active task `id`."""
    sidecar = make_sidecar(server.url, policy)
    async with sidecar.running() as address, redis_py.Redis(port=address.port) as client:
        await client.hset("asynq:{q}:t:id", mapping={"msg": "m", "state": "active"})
        await client.lpush("asynq:{q}:active", "id")
        await client.zadd("asynq:{q}:lease", {"id": 1})
        yield sidecar, client


async def complete(client: "redis_py.Redis", text: bytes, message: bytes = MESSAGE) -> bytes:
    """Complete the task as Asynq does, by sending the script's text."""
    words = CALLS.complete("id", message, 100, None, 1_700_000_000).words
    reply: bytes = await client.execute_command("EVAL", text, *words)
    assert await client.hget("asynq:{q}:t:id", "state") == b"completed"
    return reply


async def test_without_a_fault_the_ttl_is_set(server: Server) -> None:
    """The control: the same commands, nothing wrong, and the key gets its TTL."""
    async with sidecar_client(server, POLICY) as (sidecar, client):
        assert await complete(client, scripts("v0.26.0")["markAsCompleteCmd"]) == b"OK"
        assert 3600 <= await client.ttl("asynq:{q}:t:id") <= 3660
        assert not sidecar.telemetry.fail_opens


async def test_a_wrapper_that_does_not_compile(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A text that Lua takes as it is but not inside a wrapper (it is nested too deeply) stays as it is."""
    deep = b"do " * 197 + b"local deep = 1 " + b"end " * 197
    text = deep + scripts("v0.26.0")["markAsCompleteCmd"]
    with caplog.at_level(logging.WARNING):
        async with sidecar_client(server, POLICY) as (sidecar, client):
            assert await complete(client, text) == b"OK"
            assert await client.ttl("asynq:{q}:t:id") == -1
            assert sidecar.telemetry.unwrappable == 1
            assert sidecar.telemetry.fail_opens == {("compile", "q"): 1}
    assert "stays unwrapped" in caplog.text


async def test_a_policy_that_raises(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """A policy that raises leaves the command as it came."""

    class Raising(Policy):
        def decide(self, queue: str, task_type: str | None, state: State) -> Verdict | None:
            raise RuntimeError("a bug in the policy")

    with caplog.at_level(logging.WARNING):
        async with sidecar_client(server, Raising(POLICY.rules)) as (sidecar, client):
            assert await complete(client, scripts("v0.26.0")["markAsCompleteCmd"]) == b"OK"
            assert await client.ttl("asynq:{q}:t:id") == -1
            assert sidecar.telemetry.fail_opens == {("policy", "q"): 1}
    assert "RuntimeError: a bug in the policy" in caplog.text


async def test_a_policy_that_raises_about_queues(server: Server) -> None:
    """A policy that cannot even say what it is about leaves every command as it came."""

    class Raising(Policy):
        def concerns(self, queue: str) -> bool:
            raise RuntimeError("a bug in the policy")

        def archive_limits(self, queue: str) -> ArchiveLimits | None:
            raise RuntimeError("a bug in the policy")

    async with sidecar_client(server, Raising(POLICY.rules)) as (sidecar, client):
        words = CALLS.complete("id", MESSAGE, 100, None, 1_700_000_000).words
        with pytest.raises(redis_py.ResponseError, match="No matching script"):
            await client.execute_command("EVALSHA", "0" * 40, *words)
        assert await complete(client, scripts("v0.26.0")["markAsCompleteCmd"]) == b"OK"
        assert sidecar.telemetry.fail_opens["policy", "q"] >= 1


async def test_a_message_that_does_not_decode(server: Server) -> None:
    """A message that is no TaskMessage has no type to decide by: the rule for every type decides, inside Redis."""
    async with sidecar_client(server, POLICY) as (sidecar, client):
        text = scripts("v0.26.0")["markAsCompleteCmd"]
        assert await complete(client, text, b"\xff\xff no message") == b"OK"
        assert 3600 <= await client.ttl("asynq:{q}:t:id") <= 3660
        assert not sidecar.telemetry.fail_opens


async def test_a_control_connection_that_is_refused(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """When wrappers cannot be loaded (here: wrong credentials), scripts run as they come."""
    sidecar = make_sidecar(server.url.replace("redis://", "redis://nobody:wrong@"), POLICY)
    with caplog.at_level(logging.WARNING):
        async with sidecar.running() as address, redis_py.Redis(port=address.port) as client:
            await client.hset("asynq:{q}:t:id", mapping={"msg": "m", "state": "active"})
            await client.lpush("asynq:{q}:active", "id")
            await client.zadd("asynq:{q}:lease", {"id": 1})
            assert await complete(client, scripts("v0.26.0")["markAsCompleteCmd"]) == b"OK"
            assert await client.ttl("asynq:{q}:t:id") == -1
            assert sidecar.telemetry.fail_opens == {("activation", "q"): 1}
    assert "cannot load a wrapper" in caplog.text
    assert "wrong" not in caplog.text.replace("WRONGPASS", "")


TASKS = 31
FOREIGN = b"""
-- moves a job of our own to its end
local base = "asynq:{" .. ARGV[1] .. "}:"
redis.call("HSET", base .. "t:" .. ARGV[2], "state", "archived")
return redis.call("ZADD", KEYS[1], ARGV[3], ARGV[2])
"""


async def test_each_task_that_nothing_can_help_is_counted_with_its_queue(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker whose script names no task among its KEYS: each call is counted, and one line names script and queue."""
    policy = parse_policy("version: 1\nrules: [{name: q, match: {queue: [q, mail]}, archived: {ttl: 1h}}]", "test")
    async with sidecar_client(server, policy) as (sidecar, client):
        sha = await client.script_load(FOREIGN)
        for number in range(TASKS):
            await client.evalsha(sha, 1, "asynq:{mail}:archived", "mail", f"id{number}", 1_700_000_000)
        await client.eval(FOREIGN.decode(), 1, "asynq:{q}:archived", "q", "id", 1_700_000_000)
        for key in ("asynq:{elsewhere}:archived", "jobs:archived", "{mail}:archived"):
            await client.evalsha(sha, 1, key, "elsewhere", "id", 1_700_000_000)
        assert await client.zcard("asynq:{mail}:archived") == TASKS
        assert sidecar.telemetry.fail_opens == {("shape", "mail"): TASKS, ("shape", "q"): 1}
        told = scripts_not_understood(sidecar)
    assert told == [{"script": sha, "first_line": "-- moves a job of our own to its end", "wrapped": "not at all"}]
    warned = [line for line in caplog.messages if "failed open" in line]
    assert len(warned) == 1
    assert f"unknown script {sha} of queue mail was forwarded untouched" in warned[0]
    assert "what to do: " in warned[0]


async def test_a_script_that_archives_in_an_unknown_way(server: Server) -> None:
    """A text that writes a terminal state but is not understood is forwarded, and counted."""
    text = b"redis.call('HSET', KEYS[1], 'state', 'archived') return 'moved'"
    async with sidecar_client(server, POLICY) as (sidecar, client):
        assert await client.execute_command("EVAL", text, 1, "asynq:{q}:t:id") == b"moved"
        assert await client.ttl("asynq:{q}:t:id") == -1
        assert sidecar.telemetry.fail_opens == {("shape", "q"): 1}
