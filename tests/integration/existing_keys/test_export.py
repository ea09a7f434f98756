"""What is exported is the whole task, as Asynq made it; and a sink of the sweeper gets each before it is removed."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.asynq import Harness
from support.existing_keys import DAY, QUEUE, everything, members, now, put, tasks, tool, ttl, url
from support.servers import Server, SidecarFactory, wait_until

POLICY = """
version: 1
grace: 30s
rules:
  - {name: all, archived: {ttl: 2s}, completed: {ttl: 2s}}
"""


def exported(server: Server, *options: str | Path) -> dict[str, dict[str, Any]]:
    """Run an export to standard output and return the tasks by their IDs."""
    result = tool("export", "--upstream", url(server), *options)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len({line["id"] for line in lines}) == len(lines)
    return {line["id"]: line for line in lines}


def test_a_task_is_exported_whole(server: Server, harness: Harness) -> None:
    """Message, state, times, error and result of what a real worker archived and completed."""
    address = f"127.0.0.1:{server.port}"
    skip = '{"do": "skip"}'
    harness.enqueue(
        address,
        {"id": "dead", "type": "mail:send", "payload": skip, "unique": "1h", "headers": {"traceparent": "00-1"}},
        {"id": "done", "type": "sms:send", "payload": '{"do": "result", "result": "é"}', "retention": "1h"},
    )
    harness.work(address)
    harness.enqueue(address, {"id": "waits", "type": "x", "process_in": "1h"})
    with server.client() as client:
        before = everything(client)
        found = exported(server)
        assert everything(client) == before
        death = now(client)
    assert set(found) == {"dead", "done"}
    dead, done = found["dead"], found["done"]
    assert (dead["state"], dead["type"], dead["queue"]) == ("archived", "mail:send", "default")
    assert base64.b64decode(dead["payload_base64"]).decode() == skip
    assert "skip" in dead["error"]
    assert dead["headers"] == {"traceparent": "00-1"}
    assert dead["unique_key"].startswith(QUEUE + "unique:")
    assert abs(time_of(dead["died_at"]) - death) < 30
    assert (done["retention_seconds"], done["in_index"]) == (3600, True)
    assert base64.b64decode(done["result_base64"]).decode() == "é"
    text = exported(server, "--payload", "text", "--state", "completed")
    assert list(text) == ["done"]
    assert text["done"]["result"] == "é"


def time_of(text: str) -> float:
    """Return RFC 3339 text as Unix seconds."""
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone


def test_only_what_is_asked_for(server: Server, tmp_path: Path) -> None:
    """By queue, type and age; orphans are there, and a file that exists is not written over."""
    with server.client() as client:
        start = now(client)
        put(client, "old", "archived", start - 9 * DAY, task_type="mail:a", payload=b"\xff")
        put(client, "new", "archived", start - 60, task_type="mail:a")
        put(client, "orphan", "archived", None, task_type="mail:a", last_failed_at=start - 8 * DAY)
        put(client, "other", "archived", start - 9 * DAY, task_type="sms:a", queue="low")
    assert set(exported(server, "--older-than", "7d", "--type", "mail:*")) == {"old", "orphan"}
    assert set(exported(server, "--queue", "low")) == {"other"}
    old = exported(server, "--payload", "text")["old"]
    assert base64.b64decode(old["payload_base64"]) == b"\xff"
    file = tmp_path / "tasks.jsonl"
    for status in (0, 1):
        assert tool("export", "--upstream", url(server), "--output", file).exit_code == status
    assert len(file.read_text().splitlines()) == 4


def test_the_sweeper_hands_over_to_a_file(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Each task is in the file, whole, before it is gone from Redis."""
    file = tmp_path / "tasks.jsonl"
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2", sink=f"file:{file}")
    work = [{"id": f"task-{number}", "type": "x", "payload": '{"do": "skip"}', "unique": "1h"} for number in range(120)]
    for number, task in enumerate(work):
        task["payload"] = json.dumps({"do": "skip", "result": str(number)})
    harness.enqueue(sidecar.address, *work)
    harness.work(sidecar.address)
    with server.client() as client:
        wait_until(lambda: not tasks(client), "nothing is swept", 20)
        assert members(client, "archived") == set()
        assert client.keys(QUEUE + "unique:*") == []
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(task["id"] for task in work)
    payloads = {json.loads(base64.b64decode(line["payload_base64"]))["result"] for line in lines}
    assert payloads == {str(number) for number in range(120)}


@contextmanager
def webhook(statuses: list[int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answer POSTs with some statuses, the last one for ever; yield the URL and the lines that were taken."""
    taken: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
            if status == 200:
                taken.extend(json.loads(line) for line in body.splitlines())
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tasks", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_that_fails_keeps_the_tasks(server: Server, start_sidecar: SidecarFactory) -> None:
    """While it answers with an error nothing is removed, and keys live on; a webhook that takes them gets each."""
    with server.client() as client, webhook([500]) as (address, taken):
        for number in range(5):
            put(client, f"due-{number}", "archived", now(client) - 5, ttl=25, lock=True)
        put(client, "mute", "archived", now(client) - 5, ttl=25)
        client.hset(QUEUE + "t:mute", "msg", b"\xff\xff")
        sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2", sink=address)
        sidecar.expected_warnings += ["the sink .* failed"]
        wait_until(lambda: ttl(client, "due-0") > 3000, "the tasks are not held", 20)
        assert len(tasks(client)) == len(members(client, "archived")) == 6
        assert not taken
        assert client.exists(QUEUE + "unique:due-0")
        sidecar.stop()
    with server.client() as client, webhook([200]) as (address, taken):
        for name in tasks(client):
            client.expire(f"{QUEUE}t:{name}", 25)
        start_sidecar(server.url, POLICY, sweep_interval="0.2", sink=address)
        wait_until(lambda: not tasks(client), "nothing is swept", 20)
        assert {line["id"] for line in taken} == {"mute", *(f"due-{number}" for number in range(5))}
        assert base64.b64decode(next(line for line in taken if line["id"] == "mute")["message_base64"]) == b"\xff\xff"
        assert not client.exists(QUEUE + "unique:due-0")


@pytest.mark.parametrize("sink", ["tasks.jsonl", "file:", "ftp://x/y", "file:/x?max_mb=0", "file:/x?keep=3", "http://"])
def test_a_sink_that_is_none_is_refused(sink: str) -> None:
    """On the command line, with what is expected."""
    result = tool("serve", "--sink", sink)
    assert result.exit_code == 2
    assert "Invalid value for '--sink'" in result.output
