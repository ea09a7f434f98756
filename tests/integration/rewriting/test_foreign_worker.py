"""A foreign worker behind a sidecar: its scripts learnt, wrapped by effect, counted, swept; also beside Asynq's own."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis.asyncio as redis_py
from redis import ResponseError

from asynq_ttl.events import Action
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.telemetry.recent import parse_filter
from support.asynq import Harness
from support.asynq_calls import CALLS
from support.asynq_source import scripts
from support.foreign_worker import ACTIVE, ARCHIVED, COMPLETED, FAIL, MOVE, PENDING, TASK, json_message
from support.in_process import make_sidecar
from support.servers import Server, SidecarFactory, wait_until

POLICY = parse_policy("version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]", "test")
JSON = json_message("job:x", "1")


@asynccontextmanager
async def worker(server: Server, policy: Policy = POLICY) -> AsyncIterator[tuple[Sidecar, "redis_py.Redis"]]:
    """Run a sidecar in this loop; yield it and a foreign worker's client behind it, with an active task `1`."""
    sidecar = make_sidecar(server.url, policy)
    async with sidecar.running() as address, redis_py.Redis(port=address.port) as client:
        await add(client, "1")
        yield sidecar, client


async def add(client: "redis_py.Redis", task_id: str) -> None:
    """Let the worker have taken a task."""
    await client.hset(TASK + task_id, mapping={"msg": JSON, "state": "active"})
    await client.lpush(ACTIVE, task_id)


def failing(task_id: str = "1") -> tuple[str | int | bytes, ...]:
    """Return what calls `FAIL`, after the script."""
    return (3, TASK + task_id, ACTIVE, ARCHIVED, task_id, JSON)


async def test_whatever_way_a_script_comes_its_task_gets_its_ttl(server: Server) -> None:
    """By its text; by its SHA after SCRIPT LOAD, with no text to fall back to; again after the script cache is lost."""
    async with worker(server) as (sidecar, client):
        assert await client.execute_command("EVAL", FAIL, *failing()) == [1, b"1"]
        assert await client.ttl(TASK + "1") == 3660
        sha = await client.script_load(MOVE)
        assert sha == sha_of(MOVE).decode()
        done = (3, TASK + "1", ARCHIVED, COMPLETED, "1", "completed", int(time.time()))
        assert await client.execute_command("EVALSHA", sha, *done) == b"MOVED"
        assert await client.ttl(TASK + "1") == 7260
        await client.script_flush()
        again = (3, TASK + "1", COMPLETED, PENDING, "1", "pending", "")
        with pytest.raises(ResponseError, match="No matching script"):
            await client.execute_command("EVALSHA", sha, *again)
        assert await client.execute_command("EVAL", MOVE, *again) == b"MOVED"
        assert await client.ttl(TASK + "1") == -1
        assert not sidecar.telemetry.fail_opens


async def test_a_script_that_redis_knew_before_is_asked_for(server: Server) -> None:
    """Its KEYS say that it may end a task, so the client is made to send the text; for other KEYS it is not."""
    with server.client() as direct:
        direct.script_load(MOVE)
    async with worker(server) as (sidecar, client):
        await client.lpush(PENDING, "1")
        await client.lrem(ACTIVE, 1, "1")
        start = (3, TASK + "1", PENDING, ACTIVE, "1", "active", "")
        assert await client.execute_command("EVALSHA", sha_of(MOVE), *start) == b"MOVED"
        end = (3, TASK + "1", ACTIVE, ARCHIVED, "1", "archived", 1)
        with pytest.raises(ResponseError, match="No matching script"):
            await client.execute_command("EVALSHA", sha_of(MOVE), *end)
        assert await client.execute_command("EVAL", MOVE, *end) == b"MOVED"
        assert await client.ttl(TASK + "1") == 3660
        assert not sidecar.telemetry.fail_opens


async def test_in_a_pipeline_and_a_transaction_too(server: Server) -> None:
    """A command in, a command out: replies stay where they belong."""
    async with worker(server) as (_, client):
        await add(client, "2")
        async with client.pipeline(transaction=True) as pipe:
            pipe.execute_command("EVAL", FAIL, *failing())
            pipe.execute_command("EVAL", FAIL, *failing("2"))
            pipe.ttl(TASK + "2")
            assert await pipe.execute() == [[1, b"1"], [1, b"2"], 3660]
        assert await client.ttl(TASK + "1") == 3660


async def test_every_call_is_told(server: Server) -> None:
    """31 tasks are 31 decisions about their queue, under a name that says that Redis alone knows what has happened."""
    async with worker(server) as (sidecar, client):
        for number in range(31):
            await add(client, f"t{number}")
            await client.execute_command("EVAL", FAIL, *failing(f"t{number}"))
        assert sidecar.telemetry.decisions == {("q", "archived", "all", "ttl", "enforce"): 31}
        outcomes = [
            entry for entry in sidecar.telemetry.recent.latest(parse_filter([])) if entry.get("operation") == "end"
        ]
        assert len(outcomes) == 31
        assert not sidecar.telemetry.fail_opens


@pytest.mark.parametrize("mode", ["shadow", "off"])
async def test_in_shadow_and_off_nothing_is_changed(server: Server, mode: str) -> None:
    """Shadow tells, off does not."""
    policy = parse_policy(f"version: 1\nmode: {mode}\nrules: [{{name: all, archived: {{ttl: 1h}}}}]", "test")
    async with worker(server, policy) as (sidecar, client):
        assert await client.execute_command("EVAL", FAIL, *failing()) == [1, b"1"]
        assert await client.ttl(TASK + "1") == -1
        told = {("q", "archived", "all", Action.TTL.value, "shadow"): 1} if mode == "shadow" else {}
        assert sidecar.telemetry.decisions == told


async def test_a_queue_with_asynq_s_scripts_and_json_messages(server: Server) -> None:
    """Asynq's own scripts are understood, the messages are not: all get their TTL, by hand too."""
    texts = scripts("v0.26.0")
    async with worker(server) as (sidecar, client):
        now = int(time.time())
        calls = {
            "done": CALLS.complete("done", JSON, 600, None, now),
            "dead": CALLS.archive("dead", JSON, now),
            "hand": CALLS.archive_one("hand", now),
        }
        for task_id, call in calls.items():
            await add(client, task_id)
            await client.zadd("asynq:{q}:lease", {task_id: now})
            if task_id == "hand":
                await client.hset(TASK + task_id, "state", "retry")
                await client.zadd("asynq:{q}:retry", {task_id: now})
            assert await client.execute_command("EVAL", texts[call.script], *call.words) in (b"OK", 1)
        ttls = {task_id: await client.ttl(TASK + task_id) for task_id in calls}
        assert ttls == {"done": 7260, "dead": 3660, "hand": 3660}
        due = await client.zscore(COMPLETED, "done")
        assert due is not None
        assert abs(due - (now + 7200)) <= 5
        assert not sidecar.telemetry.fail_opens


async def test_a_score_in_nanoseconds_given_to_asynq_s_own_script(server: Server) -> None:
    """The script is understood, this argument is not: it goes by effect."""
    async with worker(server, DEFAULT_POLICY) as (sidecar, client):
        call = CALLS.complete("1", JSON, 10**18, None, int(time.time()))
        await client.zadd("asynq:{q}:lease", {"1": 1})
        assert await client.execute_command("EVAL", scripts("v0.26.0")[call.script], *call.words) == b"OK"
        assert await client.ttl(TASK + "1") == -1  # nobody knows its own time
        assert not sidecar.telemetry.fail_opens


def test_what_a_foreign_worker_ends_is_swept_when_it_is_due(server: Server, start_sidecar: SidecarFactory) -> None:
    """Hash and entry go together, whatever the score means; nothing is left but the task that lives again."""
    policy = "version: 1\ngrace: 2s\nrules: [{name: all, archived: {ttl: 1s}, completed: {ttl: 1s}}]"
    sidecar = start_sidecar(server.url, policy, sweep_interval="0.2")
    with sidecar.client() as client, server.client() as direct:
        direct.sadd("asynq:queues", "q")
        for task_id in ("dead", "done", "again"):
            client.hset(TASK + task_id, mapping={"msg": JSON, "state": "active"})
            client.lpush(ACTIVE, task_id)
            if task_id == "done":
                client.eval(MOVE.decode(), 3, TASK + task_id, ACTIVE, COMPLETED, task_id, "completed", 1.7e18)
            else:
                client.eval(FAIL.decode(), *failing(task_id))
        client.eval(MOVE.decode(), 3, TASK + "again", ARCHIVED, PENDING, "again", "pending", "")
        wait_until(lambda: not direct.exists(ARCHIVED, COMPLETED), "what is due stays")
        assert direct.keys(f"{TASK}*".replace("{", "\\{")) == [f"{TASK}again".encode()]
        assert direct.ttl(TASK + "again") == -1


def test_beside_a_real_worker_of_asynq(server: Server, start_sidecar: SidecarFactory, harness: Harness) -> None:
    """Both end tasks of one queue; each gets what the policy says, and Asynq's inspector reads them all."""
    sidecar = start_sidecar(server.url, "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]")
    address = sidecar.address
    (task,) = harness.enqueue(address, {"type": "ok", "queue": "q", "retention": "10m"})
    with sidecar.client() as client:
        task_id = task["id"]
        harness.work(address, "-queues", "q=1")
        assert client.hget(TASK + task_id, "state") == b"completed"
        assert client.ttl(TASK + task_id) in range(7200, 7261)
        # The foreign worker archives what Asynq's has completed: the message is a real one.
        client.eval(MOVE.decode(), 3, TASK + task_id, COMPLETED, ARCHIVED, task_id, "archived", int(time.time()))
        assert client.ttl(TASK + task_id) == 3660
        (found,) = harness.inspect(address, {"op": "get_task", "queue": "q", "id": task_id})
        assert found["state"] == "archived"
        harness.inspect(address, {"op": "run_task", "queue": "q", "id": task_id})
        assert client.ttl(TASK + task_id) == -1
