"""`asynq-ttl why` beside real Asynq: where a task is, what became of it, and what could not be said."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asynq_ttl.cli.main import main
from support.asynq import Harness
from support.asynq_source import scripts
from support.existing_keys import now, put, tasks, url
from support.servers import Server, SidecarFactory, free_port, wait_until
from support.task_message import encode_task

OLDEST = "v0.18.6"
POLICY = """
version: 1
grace: 8s
rules:
  - {name: quick, match: {type: "quick:*"}, archived: {ttl: 2s}}
  - {name: slow, archived: {ttl: 2h}, completed: {ttl: 30m}}
"""


def why(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["why", *map(str, arguments)])


def told(*arguments: object, status: int = 0) -> dict[str, Any]:
    """Run the command and return its JSON."""
    result = why(*arguments, "--json")
    assert result.exit_code == status, result.output
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def logged(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a decision log."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_line(path: Path, **fields: object) -> None:
    """Wait until a decision log has a line with some fields."""
    wait_until(lambda: any(fields.items() <= line.items() for line in logged(path)), f"not written: {fields}", 60)


def test_an_operators_minute(server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path) -> None:
    """A task is archived by a rule, handed over to a sink and swept: when, by which rule, and that the sink had it."""
    log, sink = tmp_path / "decisions", tmp_path / "ended"
    sidecar = start_sidecar(
        server.url,
        POLICY,
        sweep_interval="0.5",
        sink=f"file:{sink}",
        decisions=str(log),
        admin=f"127.0.0.1:{free_port()}",
        OTEL_TRACES_EXPORTER="console",
    )
    harness.enqueue(sidecar.address, {"id": "t-1", "type": "quick:x", "payload": '{"do": "skip"}'})
    harness.work(sidecar.address)
    before = why("t-1", "--upstream", url(server), "--admin", sidecar.admin)
    assert before.exit_code == 0, before.output
    assert "Task t-1 is archived, in queue default, since" in before.stdout
    assert "Now rule quick decides: kept for 2s." in before.stdout
    assert "after the sink has taken it" in before.stdout

    with server.client() as client:
        wait_until(lambda: not tasks(client), "is not swept", 60)
    wait_for_line(log, kind="sweep", id="t-1")
    (archived,) = [line for line in logged(log) if line["kind"] == "decision"]
    (swept,) = [line for line in logged(log) if line["kind"] == "sweep"]
    for source in (("--decisions", log), ("--admin", sidecar.admin)):
        after = why("t-1", "--upstream", url(server), *source)
        assert after.exit_code == 0, after.output
        assert f"It is gone: the sweeper of a sidecar removed it at {swept['time']}" in after.stdout
        assert "Rule quick had decided how long it is kept." in after.stdout
        assert f"The sink file:{sink} had it before." in after.stdout
        assert f"{archived['time']} queue default: archived. By rule quick its key got a TTL" in after.stdout
        assert archived["trace_id"] in after.stdout
    answer = told("t-1", "--upstream", url(server), "--decisions", log)
    assert (answer["rule_then"], answer["tasks"], answer["possible"]) == ("quick", [], [])
    assert answer["trace_ids"] == [archived["trace_id"], swept["trace_id"]]
    assert json.loads(sink.read_text())["id"] == "t-1"


def test_the_oldest_release(server: Server, start_sidecar: SidecarFactory, tmp_path: Path) -> None:
    """Its own scripts, through the sidecar: the rule that decided, in Redis and in the log."""
    log, prefix = tmp_path / "decisions", "asynq:{old}:"
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.5", decisions=str(log))
    script = scripts(OLDEST)
    message = encode_task("quick:x", "o-1", "old")
    with sidecar.client() as client, server.client() as direct:
        died = now(direct)
        client.sadd("asynq:queues", "old")
        client.eval(script["enqueueCmd"].decode(), 2, f"{prefix}t:o-1", f"{prefix}pending", message, "o-1", 1800, 0)
        places = [f"{prefix}{name}" for name in ("pending", "paused", "active", "deadlines")]
        client.eval(script["dequeueCmd"].decode(), 4, *places, died, f"{prefix}t:")
        active = told("o-1", "--upstream", url(server), "--queue", "old")["tasks"][0]
        assert (active["state"], active["stands_in"]) == ("active", ["deadlines", "active"])
        assert active["next_at"] is not None
        keys = [
            f"{prefix}t:o-1",
            *(f"{prefix}{name}" for name in ("active", "deadlines", "archived", "processed:d", "failed:d")),
        ]
        client.eval(script["archiveCmd"].decode(), 6, *keys, "o-1", message, died, died - 90 * 86_400, 10_000, died + 9)
        answer = told("o-1", "--upstream", url(server), "--policy", sidecar.policy_file)["tasks"][0]
        assert (answer["state"], answer["rules_now"]["archived"]["rule"]) == ("archived", "quick")
        wait_until(lambda: not tasks(direct, "old"), "is not swept", 60)
    wait_for_line(log, kind="sweep", id="o-1")
    assert told("o-1", "--upstream", url(server), "--decisions", log)["rule_then"] == "quick"


def test_every_state(server: Server, harness: Harness) -> None:
    """As Asynq leaves tasks in them: where each stands, since when, and what happens next."""
    started = time.time()
    address = f"127.0.0.1:{server.port}"
    harness.enqueue(
        address,
        {"id": "done", "type": "x", "payload": "{}", "retention": "1h", "unique": "1h"},
        {"id": "dead", "type": "x", "payload": '{"do": "skip"}'},
    )
    harness.work(address)
    harness.enqueue(
        address,
        {"id": "failed", "type": "x", "payload": '{"do": "fail"}', "max_retry": 3},
        {"id": "running", "type": "x", "payload": '{"do": "sleep", "ms": 600000}'},
    )
    worker = harness.serve(address, "-retry-delay", "1h", "-task-check-interval", "20ms")
    with server.client() as client:
        wait_until(
            lambda: client.zcard("asynq:{default}:retry") and client.llen("asynq:{default}:active"), "no retry", 60
        )
        harness.enqueue(
            address,
            {"id": "later", "type": "x", "process_in": "1h"},
            {"id": "grouped", "type": "x", "group": "g", "queue": "low"},
            {"id": "first", "type": "x", "queue": "low"},
            {"id": "second", "type": "x", "queue": "low"},
        )
        found = {name: told(name, "--upstream", url(server))["tasks"] for name in
                 ("done", "dead", "failed", "running", "later", "grouped", "first", "second")}  # fmt: skip
        harness.inspect(address, {"op": "pause", "queue": "low"})
        paused = why("second", "--queue", "low", "--upstream", url(server)).stdout
        worker.kill()
    assert all(len(each) == 1 for each in found.values())
    states = {name: (each["state"], each["stands_in"]) for name, (each,) in found.items()}
    assert states == {
        "done": ("completed", ["completed"]),
        "dead": ("archived", ["archived"]),
        "failed": ("retry", ["retry"]),
        "running": ("active", ["lease", "active"]),
        "later": ("scheduled", ["scheduled"]),
        "grouped": ("aggregating", []),
        "first": ("pending", ["pending"]),
        "second": ("pending", ["pending"]),
    }
    assert {name for name, (each,) in found.items() if each["since"]} == {"done", "dead", "failed", "first", "second"}
    assert all(each["next_at"] for name, (each,) in found.items() if name not in ("first", "second", "grouped"))
    assert "after 0 other tasks" in " ".join(found["first"][0]["next"])
    assert "after 1 other tasks" in paused
    assert "The queue is paused" in paused
    assert found["failed"][0]["retried"] == 1
    assert found["done"][0]["retention_seconds"] == 3_600
    assert min(each["since"] for name, (each,) in found.items() if each["since"]) >= time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(started - 5)
    )


@pytest.mark.parametrize(
    "task_id",
    [
        b"a b",
        b"quo'te\"",
        b"new\nline\x1b[31m",
        b"{x}",
        b"x}:t:y",
        b"\xff\xfe",
        b"\xe2\x80\xae",
        b"*",
        b"-h",
        b"x" * 5_000,
    ],
)
def test_odd_ids(server: Server, start_sidecar: SidecarFactory, tmp_path: Path, task_id: bytes) -> None:
    """Whatever bytes an ID has, its task is found alive and when it is gone, and no other one is."""
    log, encoded = tmp_path / "decisions", base64.b64encode(task_id).decode()
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.5", decisions=str(log))
    prefix = b"asynq:{q}:"
    with sidecar.client() as client, server.client() as direct:
        client.sadd("asynq:queues", "q")
        name = task_id.decode("utf-8", "surrogateescape").encode("utf-8", "surrogateescape")
        message = encode_task("quick:x", "id", "q")
        direct.lpush(prefix + b"active", task_id)
        direct.zadd(prefix + b"lease", {task_id: now(direct) + 30})
        direct.hset(prefix + b"t:" + name, mapping={"msg": message, "state": "active"})
        died = now(direct)
        keys = [
            prefix + b"t:" + name,
            *(prefix + each for each in (b"active", b"lease", b"archived", b"p:d", b"f:d", b"p", b"f", b"t:")),
        ]
        archive = scripts("v0.26.0")["archiveCmd"]
        client.eval(archive, 9, *keys, task_id, message, died, died - 90 * 86_400, 10_000, died + 9, 2**62)
        answer = told("--base64", encoded, "--upstream", url(server))
        assert [each["state"] for each in answer["tasks"]] == ["archived"]
        assert all(line.isprintable() for line in answer["sentences"])
        other = base64.b64encode(task_id + b"\xfe").decode()
        assert not told("--base64", other, "--upstream", url(server), status=3)["known"]
        wait_until(lambda: not direct.exists(prefix + b"t:" + name), "is not swept", 60)
    wait_until(lambda: any(line["kind"] == "sweep" for line in logged(log)), "not written", 60)
    answer = told("--base64", encoded, "--upstream", url(server), "--decisions", log)
    assert [each["kind"] for each in answer["events"]][-1] == "sweep"
    assert answer["end"]
    assert not told("--base64", other, "--upstream", url(server), "--decisions", log, status=3)["known"]


def test_keys_of_a_wrong_type(server: Server) -> None:
    """Each is named, and the rest is told."""
    with server.client() as client:
        put(client, "a", "archived", now(client), lock=True)
        client.delete("asynq:{default}:archived", "asynq:{default}:unique:a")
        for key in ("archived", "pending", "lease"):
            client.set(f"asynq:{{default}}:{key}", "x")
        client.rpush("asynq:{default}:unique:a", "x")
        client.sadd("asynq:{default}:paused", "x")
        client.rpush("asynq:{default}:t:b", "x")
    answer = told("a", "--upstream", url(server))
    assert answer["tasks"][0]["state"] == "archived"
    keys = {f"asynq:{{default}}:{key}" for key in ("archived", "pending", "lease", "unique:a")}
    assert set(answer["tasks"][0]["wrong_keys"]) == keys
    assert answer["tasks"][0]["queue_paused"] is False
    (other,) = told("b", "--upstream", url(server), "--queue", "default")["tasks"]
    assert (other["exists"], "asynq:{default}:t:b" in other["wrong_keys"]) == (False, True)


def test_ghosts_and_orphans(server: Server) -> None:
    """An ID whose hash is gone, a hash that no index names, and an ID in an index of an earlier life."""
    with server.client() as client:
        put(client, "ghost", "archived", now(client))
        client.delete("asynq:{default}:t:ghost")
        put(client, "orphan", "archived", None)
        put(client, "again", "archived", now(client))
        put(client, "again", "pending", None)
        client.lpush("asynq:{default}:pending", "again")
    assert "its ID stands in archived: a ghost" in why("ghost", "--upstream", url(server)).stdout
    assert "Asynq does not see it" in why("orphan", "--upstream", url(server)).stdout
    again = told("again", "--upstream", url(server))["tasks"][0]
    assert again["stands_in"] == ["archived", "pending"]


def test_one_id_in_several_queues(server: Server) -> None:
    """All are told, or the one that is asked for; many queues are searched."""
    with server.client() as client:
        client.sadd("asynq:queues", *(f"empty-{number}" for number in range(300)))
        put(client, "a", "archived", now(client), queue="one")
        put(client, "a", "completed", now(client) + 60, queue="two")
    found = told("a", "--upstream", url(server))["tasks"]
    assert sorted((each["queue"], each["state"]) for each in found) == [("one", "archived"), ("two", "completed")]
    (only,) = told("a", "--upstream", url(server), "--queue", "two")["tasks"]
    assert only["queue"] == "two"


def test_an_empty_database(server: Server, tmp_path: Path) -> None:
    """It was asked, and has nothing; what could have happened is told as no fact."""
    answer = told("a", "--upstream", url(server), status=3)
    assert (answer["known"], answer["whole"]) == (False, True)
    assert answer["possible"]
    assert told("a", "--upstream", f"redis://127.0.0.1:{free_port()}/0", status=1)["whole"] is False


def test_the_work_is_bounded(server: Server) -> None:
    """With a queue, the commands that are run do not grow with the database, and none walks through its keys."""
    with server.client() as client:
        put(client, "a", "pending", None)
        counts = []
        for number in (10, 20_000):
            with client.pipeline(transaction=False) as pipeline:
                for each in range(number):
                    pipeline.lpush("asynq:{default}:pending", f"other-{each}")
                    pipeline.hset(f"asynq:{{default}}:t:other-{each}", "state", "pending")
                pipeline.execute()
            client.config_resetstat()
            assert told("a", "--upstream", url(server), "--queue", "default")["tasks"][0]["state"] == "pending"
            stats: Any = client.info("commandstats")
            counts.append({name: each["calls"] for name, each in stats.items() if "config" not in name})
    assert counts[0] == counts[1]
    assert not {name for name in counts[0] if "scan" in name or "keys" in name}
