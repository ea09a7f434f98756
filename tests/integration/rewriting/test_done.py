"""Real Asynq through the sidecar: a task that succeeds without a Retention is kept as a completed one."""

from typing import Any

import pytest
import redis

from asynq_ttl.policy.rules import FOREVER_RETENTION, FOREVER_SCORE
from support.asynq import Harness
from support.asynq_calls import CALLS, Call
from support.asynq_source import scripts
from support.servers import Server, SidecarFactory, wait_until
from support.task_message import encode_task

POLICY = """
version: 1
grace: 30s
rules:
  - name: noise
    match: {type: "ping:*"}
    done: {ttl: keep}
  - name: rubbish
    match: {type: "rubbish:*"}
    done: {ttl: delete}
  - name: precious
    match: {type: "payment:*"}
    done: {ttl: forever}
  - name: mail
    match: {queue: default}
    done: {ttl: 2h}
"""
PREFIX = "asynq:{default}:"
# The oldest release that knows completed tasks, and the newest.
KNOWING = ("v0.19.0", "v0.20.0", "v0.22.1", "v0.24.1", "v0.26.0")


def task(identity: str, kind: str = "job:x", do: str = "ok", **options: Any) -> dict[str, Any]:
    """Describe a task for the harness."""
    return {"id": identity, "type": kind, "payload": f'{{"do": "{do}", "result": "fine"}}', **options}


def keys_of(server: Server) -> set[str]:
    """Return the keys of the queue, without those that count by the day."""
    with server.client() as client:
        return {key.decode().removeprefix(PREFIX) for key in client.scan_iter(f"{PREFIX}*") if b"processed" not in key}


def test_a_task_without_retention_is_there_again(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """With its payload, its result, when it completed and how long it stays; its entry and its TTL fit that."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as client:
        before = client.time()[0]
    harness.enqueue(sidecar.address, task("a", do="result"), task("b", unique="1h"))
    harness.work(sidecar.address)
    # Whoever asks need not go through the sidecar.
    listed = harness.inspect(f"127.0.0.1:{server.port}", {"op": "list", "queue": "default", "state": "completed"})[0]
    seen = {entry["id"]: entry for entry in listed}
    assert seen.keys() == {"a", "b"}
    assert (seen["a"]["type"], seen["a"]["state"], seen["a"]["result"]) == ("job:x", "completed", "fine")
    assert seen["a"]["payload"] == task("a", do="result")["payload"]
    with server.client() as client:
        now = client.time()[0]
        for name, entry in seen.items():
            assert before <= entry["completed_at"] <= now
            assert entry["retention"] == 7200
            assert client.zscore(f"{PREFIX}completed", name) == entry["completed_at"] + 7200
            assert 7200 < client.ttl(f"{PREFIX}t:{name}") <= 7230
        assert client.get(f"{PREFIX}processed") == b"2"
    assert keys_of(server) == {"t:a", "t:b", "completed"}
    info = harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]
    assert (info["completed"], info["processed_total"]) == (2, 2)


def test_the_type_in_the_hash_picks_the_rule(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Asynq's own way leaves nothing, as does delete; what is kept for ever has no TTL, and its entry is never due."""
    sidecar = start_sidecar(server.url, POLICY)
    kinds = {"own": "ping:a", "thrown": "rubbish:a", "kept": "payment:a", "timed": "job:a"}
    harness.enqueue(sidecar.address, *(task(name, kind) for name, kind in kinds.items()))
    harness.work(sidecar.address)
    assert keys_of(server) == {"t:kept", "t:timed", "completed"}
    with server.client() as client:
        assert client.ttl(f"{PREFIX}t:kept") == -1
        assert client.zscore(f"{PREFIX}completed", "kept") == FOREVER_SCORE
    found = harness.inspect(sidecar.address, {"op": "get_task", "queue": "default", "id": "kept"})[0]
    assert found["retention"] == FOREVER_RETENTION


def test_only_success_is_kept(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """A task that fails is archived as ever, and one with a Retention of its own is kept for that."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(sidecar.address, task("bad", do="skip"), task("own", retention="10m"), task("done"))
    harness.work(sidecar.address)
    with server.client() as client:
        states = {name: client.hget(f"{PREFIX}t:{name}", "state") for name in ("bad", "own", "done")}
        assert states == {"bad": b"archived", "own": b"completed", "done": b"completed"}
        assert {name: client.ttl(f"{PREFIX}t:{name}") > 0 for name in states} == {
            "bad": False,
            "own": False,
            "done": True,
        }


def test_a_task_that_is_run_again_is_kept_by_the_same_rule(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """What was added to its message is taken off, so that it has no Retention again and gets no other rule's time."""
    sidecar = start_sidecar(server.url, POLICY + "    completed: {ttl: 30d}\n")
    harness.enqueue(sidecar.address, task("a"))
    harness.work(sidecar.address)
    harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "a"})
    found = harness.inspect(sidecar.address, {"op": "get_task", "queue": "default", "id": "a"})[0]
    assert (found["state"], found["retention"], found["completed_at"]) == ("pending", 0, None)
    with server.client() as client:
        assert client.ttl(f"{PREFIX}t:a") == -1
        assert client.hexists(f"{PREFIX}t:a", "asynq_ttl_done") is False
    harness.work(sidecar.address)
    with server.client() as client:
        assert 7200 < client.ttl(f"{PREFIX}t:a") <= 7230


def test_what_is_kept_goes_when_its_time_is_over(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """By the sweeper, hash and entry together."""
    sidecar = start_sidecar(server.url, POLICY.replace("2h", "1s"), sweep_interval="1")
    harness.enqueue(sidecar.address, task("a"))
    harness.work(sidecar.address)
    wait_until(lambda: not keys_of(server), "the task is still there", 60)


@pytest.mark.parametrize("adopt", ["new", "all"])
def test_what_is_kept_for_ever_is_not_adopted(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, adopt: str
) -> None:
    """It has no TTL, but not because a command went past the sidecar: the rule for completed tasks is not its own."""
    policy = POLICY.replace("version: 1", f"version: 1\nadopt: {adopt}") + "    completed: {ttl: 1d}\n"
    sidecar = start_sidecar(server.url, policy, sweep_interval="1")
    harness.enqueue(sidecar.address, task("kept", "payment:a"))
    harness.work(sidecar.address)
    with server.client() as client:
        message = encode_task("job:x", "past", "default", 600)
        client.hset(f"{PREFIX}t:past", mapping={"msg": message, "state": "completed"})
        client.zadd(f"{PREFIX}completed", {"past": client.time()[0] + 600})
        wait_until(lambda: client.ttl(f"{PREFIX}t:past") > 0, "the other one was not adopted", 120)
        assert client.ttl(f"{PREFIX}t:kept") == -1
        assert client.zscore(f"{PREFIX}completed", "kept") == FOREVER_SCORE


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_shadow_and_off_keep_nothing(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, mode: str
) -> None:
    """Such a task is gone, as it would be without the sidecar."""
    sidecar = start_sidecar(server.url, POLICY.replace("version: 1", f"version: 1\nmode: {mode}"))
    harness.enqueue(sidecar.address, task("a"), task("b", unique="1h"))
    harness.work(sidecar.address)
    assert keys_of(server) == set()


@pytest.mark.parametrize("version", KNOWING)
@pytest.mark.parametrize("unique", [None, "u"])
def test_each_version_s_scripts(
    server: Server, start_sidecar: SidecarFactory, version: str, unique: str | None
) -> None:
    """Every release that knows completed tasks: the reply is as ever, and the lock is free."""
    sidecar = start_sidecar(server.url, POLICY.replace("default", "q"))
    with server.client() as direct, sidecar.client() as client:
        begin(direct, "1", unique)
        assert send(client, version, "1", unique) == b"OK"
        assert direct.zscore("asynq:{q}:completed", "1") is not None
        assert direct.hget("asynq:{q}:t:1", "state") == b"completed"
        assert direct.exists("asynq:{q}:unique:u") == 0
        assert direct.llen("asynq:{q}:active") == direct.zcard("asynq:{q}:lease") == 0
        # A second time there is nothing to be done with: the error is as ever, and the task stays.
        with pytest.raises(redis.ResponseError, match="NOT FOUND"):
            send(client, version, "1", unique)
        assert direct.hget("asynq:{q}:t:1", "state") == b"completed"


def test_redis_knew_the_script_before(server: Server, start_sidecar: SidecarFactory) -> None:
    """A client that calls by the SHA alone is asked for the text in queues that a rule is about, and nowhere else."""
    sidecar = start_sidecar(server.url, POLICY.replace("default", "q"))
    with server.client() as direct, sidecar.client() as client:
        sha = direct.script_load(scripts("v0.26.0")["doneCmd"].decode())
        begin(direct, "1", None)
        call = calls("1", None)
        with pytest.raises(redis.exceptions.NoScriptError):
            client.execute_command("EVALSHA", sha, *call.words)
        assert client.execute_command("EVAL", call.text, *call.words) == b"OK"
        assert direct.hget("asynq:{q}:t:1", "state") == b"completed"
        begin(direct, "2", None)
        assert client.execute_command("EVALSHA", sha, *calls("2", None).words) == b"OK"
        assert direct.hget("asynq:{q}:t:2", "state") == b"completed"


def test_an_entry_of_an_earlier_life_is_no_hindrance(server: Server, start_sidecar: SidecarFactory) -> None:
    """A ghost in the index gets the new score."""
    sidecar = start_sidecar(server.url, POLICY.replace("default", "q"))
    with server.client() as direct, sidecar.client() as client:
        direct.zadd("asynq:{q}:completed", {"1": 5})
        begin(direct, "1", None)
        assert send(client, "v0.26.0", "1", None) == b"OK"
        assert direct.zscore("asynq:{q}:completed", "1") > direct.time()[0]


@pytest.mark.parametrize("spoilt", ["index", "message", "no message"])
def test_what_cannot_be_kept_is_gone_as_ever(server: Server, start_sidecar: SidecarFactory, spoilt: str) -> None:
    """Neither a hash without an entry is left nor an entry without a hash, and the worker sees success."""
    sidecar = start_sidecar(server.url, POLICY.replace("default", "q"))
    with server.client() as direct, sidecar.client() as client:
        begin(direct, "1", None)
        if spoilt == "index":
            direct.set("asynq:{q}:completed", "no index")
        elif spoilt == "message":
            direct.hset("asynq:{q}:t:1", "msg", '{"type": "json"}')
        else:
            direct.hdel("asynq:{q}:t:1", "msg")
        assert send(client, "v0.26.0", "1", None) == b"OK"
        assert direct.exists("asynq:{q}:t:1") == 0
        assert direct.exists("asynq:{q}:completed") == (spoilt == "index")


def begin(direct: "redis.Redis", task_id: str, unique: str | None) -> None:
    """Put a task where a worker has it."""
    hash_key = f"asynq:{{q}}:t:{task_id}"
    direct.hset(hash_key, mapping={"msg": encode_task("job:x", task_id, "q"), "state": "active", "result": "fine"})
    direct.lpush("asynq:{q}:active", task_id)
    direct.zadd("asynq:{q}:lease", {task_id: direct.time()[0] + 30})
    if unique is not None:
        direct.hset(hash_key, "unique_key", f"asynq:{{q}}:unique:{unique}")
        direct.set(f"asynq:{{q}}:unique:{unique}", task_id)


def calls(task_id: str, unique: str | None) -> Call:
    """Return the newest release's call."""
    return CALLS.done(task_id, unique, 1_800_000_000)


def send(client: "redis.Redis", version: str, task_id: str, unique: str | None) -> Any:
    """Be done with a task as a release does; before v0.20 nothing counts the total."""
    call = calls(task_id, unique)
    text, keys, args = scripts(version)[call.script], list(call.keys), list(call.args)
    if version == "v0.19.0":
        keys.remove("asynq:{q}:processed")
        args.pop()
    return client.eval(text.decode(), len(keys), *keys, *args)
