"""The decision log of a running sidecar: what is in it, and that nothing waits for it."""

import json
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from support.asynq import Harness
from support.existing_keys import now, put, tasks
from support.servers import Server, SidecarFactory, free_port, wait_until

POLICY = """
version: 1
grace: 4s
adopt: all
rules:
  - {name: quick, match: {type: "quick:*"}, archived: {ttl: 1s}}
  - {name: slow, archived: {ttl: 2h}, completed: {ttl: 30m}}
"""
UNCLEAR = 'return redis.call("HSET", KEYS[1], "state", "archived", "x", ARGV[1])'


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, each of which is a JSON object."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def kinds(path: Path) -> set[str]:
    """Return of what kinds they are."""
    return {line["kind"] for line in lines(path)}


def get(admin: str, call: str) -> str:
    """Return what the admin server answers."""
    with urlopen(f"http://{admin}{call}") as answer:
        return str(answer.read().decode())


@pytest.mark.parametrize("hidden", [False, True])
def test_all_kinds_are_written(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path, *, hidden: bool
) -> None:
    """Decisions, adoptions, removals, fail-opens and reloads; no payload, and no ID where they are hidden."""
    log = tmp_path / "decisions"
    options = {"hide_task_ids": ""} if hidden else {}
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.5", decisions=str(log), **options)
    sidecar.expected_warnings.append("failed open")
    harness.enqueue(sidecar.address, {"id": "named-1", "type": "quick:x", "payload": '{"do": "skip", "x": "treasure"}'})
    harness.work(sidecar.address)
    with server.client() as client:
        put(client, "named-2", "archived", now(client) - 10, payload=b"treasure")
        wait_until(lambda: "named-1" not in tasks(client), "is not swept", 60)
    with sidecar.client() as client:
        client.eval(UNCLEAR, 1, "asynq:{q}:t:named-3", "treasure")
    sidecar.reload(POLICY.replace("2h", "3h"))
    wanted = {"begin", "activation", "decision", "sweep", "adoption", "fail_open", "reload"}
    wait_until(lambda: kinds(log) >= wanted, f"not all kinds are there: {kinds(log)}", 60)
    text = log.read_text()
    assert "treasure" not in text
    assert ("named-" in text) is not hidden
    assert lines(log)[0]["task_ids"] is not hidden
    if not hidden:
        named = {line["kind"]: line["id"] for line in lines(log) if "id" in line}
        assert named == {"decision": "named-1", "sweep": "named-1", "adoption": "named-2", "fail_open": "named-3"}


def test_what_is_decided_last_is_written(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """A sidecar that ends leaves nothing out; the next one goes on in the same file."""
    log = tmp_path / "decisions"
    sidecar = start_sidecar(redis_server.url, POLICY, decisions=str(log))
    for round_number in (1, 2):
        ended = [{"id": f"{round_number}-{each}", "type": "x", "payload": '{"do": "skip"}'} for each in range(200)]
        harness.enqueue(sidecar.address, *ended)
        harness.work(sidecar.address)
        assert sidecar.stop() == 0
        found = [line["id"] for line in lines(log) if line["kind"] == "decision"]
        assert len(found) == len(set(found)) == 200 * round_number
        sidecar.start()
    assert [line["kind"] for line in lines(log)].count("begin") >= 2


@pytest.mark.parametrize("fault", ["the disk is full", "the folder is gone", "something else is there"])
def test_a_log_that_cannot_be_written_stops_nothing(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path, fault: str
) -> None:
    """It is named once, counted, told by readyz, status and metrics, and used again when it can be."""
    folder = tmp_path / "folder"
    path = Path("/dev/full") if fault == "the disk is full" else folder / "decisions"
    if fault == "something else is there":
        folder.touch()
    admin = f"127.0.0.1:{free_port()}"
    sidecar = start_sidecar(redis_server.url, POLICY, decisions=str(path), admin=admin, sweep_interval="0.5")
    sidecar.expected_warnings.append("the decision log .* cannot be written")
    harness.enqueue(
        sidecar.address, *({"id": f"t-{each}", "type": "quick:x", "payload": '{"do": "skip"}'} for each in range(50))
    )
    harness.work(sidecar.address)
    with redis_server.client() as client:
        wait_until(lambda: not tasks(client), "nothing is swept", 60)
    wait_until(lambda: json.loads(get(admin, "/api/status"))["decision_log"]["failures"] > 2, "is not tried again", 60)
    status = json.loads(get(admin, "/api/status"))["decision_log"]
    assert f"the decision log {path} cannot be written" in status["problem"]
    assert get(admin, "/readyz") == f"ok, but {status['problem']}\n"
    assert "asynq_ttl_decision_log_failing 1.0" in get(admin, "/metrics")
    assert len(sidecar.log().split("cannot be written")) == 2
    if fault == "the disk is full":
        return
    folder.unlink(missing_ok=True)
    folder.mkdir()
    wait_until(lambda: get(admin, "/readyz") == "ok\n", "is not written again", 60)
    wait_until(lambda: len([line for line in lines(path) if line["kind"] == "sweep"]) == 50, "lines are lost", 60)
    assert len([line for line in lines(path) if line["kind"] == "decision"]) == 50
    assert "is written again" in sidecar.log()
