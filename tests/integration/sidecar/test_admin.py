"""The admin server, `tail` and `report` of a sidecar that works: what an operator sees and does."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from support.asynq import Harness
from support.commands import command_line, run
from support.otlp import attributes, grpc_receiver, http_receiver
from support.servers import Server, Sidecar, SidecarFactory, free_port, start_redis, wait_until

POLICY = """
version: 1
grace: 1s
rules:
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: default, archived: {ttl: 1h}, completed: {ttl: keep}}
"""
FAILED = {"payload": '{"do": "skip"}', "type": "job:a"}


def call(sidecar: Sidecar, path: str, method: str = "GET", **headers: str) -> Any:
    """Return the answer of the admin server: JSON as what it is, anything else as text."""
    request = Request(f"http://{sidecar.admin}{path}", method=method, headers=headers)
    with urlopen(request, timeout=10) as answer:  # noqa: S310 - loopback
        text = answer.read().decode()
        return json.loads(text) if answer.headers["Content-Type"].startswith("application/json") else text


@contextmanager
def tailing(sidecar: Sidecar, folder: Path, *options: str) -> Iterator[Path]:
    """Run `asynq-ttl tail` while the block runs; yield the file with what it writes."""
    path = folder / "tail"
    with path.open("wb") as output, (folder / "notes").open("wb") as notes:
        line = command_line("tail", "--admin", sidecar.admin, *options)
        process = subprocess.Popen(line, stdout=output, stderr=notes)
        try:
            wait_until(lambda: "watching" in (folder / "notes").read_text(), "it does not watch")
            yield path
        finally:
            process.kill()
            process.wait()


def test_health_follows_redis_and_the_end(start_sidecar: SidecarFactory) -> None:
    """Ready only while Redis answers; alive and started in any case."""
    port = free_port()
    sidecar = start_sidecar(f"redis://127.0.0.1:{port}/0", POLICY, admin="127.0.0.1:0")
    sidecar.expected_warnings.append("is down")
    assert call(sidecar, "/livez") == call(sidecar, "/startupz") == "ok\n"
    with pytest.raises(HTTPError) as refused:
        call(sidecar, "/readyz")
    assert refused.value.code == 503
    assert f"127.0.0.1:{port}" in refused.value.read().decode()
    with start_redis(port=port):
        wait_until(lambda: call(sidecar, "/api/status")["problem"] == "", "it does not get ready")
        assert call(sidecar, "/readyz") == "ok\n"
        assert call(sidecar, "/api/drain", "POST") == {"draining": True}
        assert sidecar.process is not None
        assert sidecar.process.wait(10) == 0


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_prometheus_reads_what_is_pushed(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, protocol: str
) -> None:
    """The decisions, the sidecar's own latency and all the rest are at /metrics, and at the collector."""
    with (grpc_receiver if protocol == "grpc" else http_receiver)() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        sidecar = start_sidecar(redis_server.url, POLICY, admin="127.0.0.1:0", **variables)
        harness.enqueue(sidecar.address, FAILED, FAILED | {"type": "ping:a"})
        harness.work(sidecar.address)
        text = call(sidecar, "/metrics")
        sidecar.stop()
    for action, rule in (("ttl", "default"), ("delete", "noise")):
        labels = f'asynq_queue="default",asynq_task_state="archived",asynq_ttl_action="{action}"'
        assert f'asynq_ttl_decisions_total{{{labels},asynq_ttl_mode="enforce",asynq_ttl_rule="{rule}"}} 1.0' in text
    assert 'asynq_ttl_latency_seconds_bucket{direction="command",le="+Inf"}' in text
    assert "asynq_ttl_upstream_up 1.0" in text
    points = receiver.metrics["asynq_ttl.decisions"].sum.data_points
    assert {attributes(point.attributes)["asynq_ttl.rule"]: point.as_int for point in points} == {
        "default": 1,
        "noise": 1,
    }
    latency = receiver.metrics["asynq_ttl.latency"]
    assert latency.unit == "s"
    assert {attributes(point.attributes)["direction"] for point in latency.histogram.data_points} == {
        "command",
        "reply",
    }
    pulled = {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line.startswith("asynq_ttl_")}
    pushed = tuple(name.replace(".", "_") for name in receiver.metrics)
    assert len(pulled) > 25
    assert [name for name in pulled if not name.startswith(pushed)] == []


def test_tail_shows_decisions_as_they_are_made(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Filtered, for people or as JSON; a restart of the sidecar is survived."""
    sidecar = start_sidecar(server.url, POLICY, admin=f"127.0.0.1:{free_port()}", sweep_interval="0.3")
    with tailing(sidecar, tmp_path, "--queue", "de*", "--type", "job:*", "--action", "ttl", "--json") as path:
        harness.enqueue(sidecar.address, FAILED | {"id": "a"}, FAILED | {"type": "ping:a", "id": "b"})
        harness.work(sidecar.address)
        wait_until(path.read_text, "nothing is shown")
        sidecar.stop()
        wait_until(lambda: "has gone" in (tmp_path / "notes").read_text(), "it does not notice")
        sidecar.start()
        time.sleep(1.5)  # it tries again every second
        harness.enqueue(sidecar.address, FAILED | {"id": "c"})
        harness.work(sidecar.address)
        wait_until(lambda: len(path.read_text().splitlines()) >= 2, "it does not come back")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(entry["id"], entry["rule"], entry["action"]) for entry in found] == [
        ("a", "default", "ttl"),
        ("c", "default", "ttl"),
    ]
    with tailing(sidecar, tmp_path, "--kind", "decision") as path:
        harness.enqueue(sidecar.address, FAILED | {"id": "d"})
        harness.work(sidecar.address)
        wait_until(lambda: "id=d" in path.read_text(), "nothing is shown")
    assert "archive  ttl 3,601 s queue=default type=job:a id=d rule=default" in path.read_text()


def test_the_ring_tells_why_a_task_has_gone(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Archived by a rule, swept when due: both can be asked for afterwards."""
    policy = POLICY.replace("1h", "1s")
    sidecar = start_sidecar(server.url, policy, admin="127.0.0.1:0", sweep_interval="0.2")
    harness.enqueue(sidecar.address, FAILED | {"id": "gone"})
    harness.work(sidecar.address)
    wait_until(lambda: call(sidecar, "/api/decisions?kind=sweep")["decisions"], "it is not swept")
    sweep, archive = call(sidecar, "/api/decisions?queue=default&kind=sweep&kind=decision")["decisions"]
    assert (archive["id"], archive["ttl_seconds"]) == ("gone", 2)
    assert (sweep["ids"], sweep["action"]) == (["gone"], "delete")


def test_pausing_is_a_panic_switch(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """While it is paused no task gets a TTL or is deleted; those that have one lose it when they are run again."""
    sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0")
    harness.enqueue(sidecar.address, FAILED | {"id": "before"})
    harness.work(sidecar.address)
    assert call(sidecar, "/api/pause", "POST")["mode"] == "shadow"
    harness.enqueue(sidecar.address, FAILED | {"id": "during"}, FAILED | {"type": "ping:a", "id": "noise"})
    harness.work(sidecar.address)
    harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "before"})
    with server.client() as client:
        ttls = {name: client.ttl(f"asynq:{{default}}:t:{name}") for name in ("before", "during", "noise")}
        assert ttls == {"before": -1, "during": -1, "noise": -1}
        assert call(sidecar, "/api/resume", "POST")["mode"] == "enforce"
        harness.work(sidecar.address)
        assert client.ttl("asynq:{default}:t:before") > 3_000
    asked = "/api/decisions?kind=decision&rule=default&mode=shadow"
    modes = {entry["id"]: entry["mode"] for entry in call(sidecar, asked)["decisions"]}
    assert modes == {"during": "shadow"}


def test_a_reload_that_is_refused_says_why(server: Server, start_sidecar: SidecarFactory) -> None:
    """By the call, by the status, by a metric; a good one then makes it right."""
    sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0")
    sidecar.expected_warnings.append("not reloaded")
    sidecar.reload("version: 1\nrules: 5")
    with pytest.raises(HTTPError) as refused:
        call(sidecar, "/api/reload", "POST")
    assert refused.value.code == 422
    (fault,) = json.loads(refused.value.read())["faults"]
    assert "rules" in fault
    assert call(sidecar, "/api/policy")["last_reload"]["faults"] == [fault]
    assert "asynq_ttl_policy_refused 1.0" in call(sidecar, "/metrics")
    sidecar.reload(POLICY + "\n# changed\n")
    told = call(sidecar, "/api/policy")
    assert told["text"].endswith("# changed\n")
    assert told["last_reload"]["faults"] == []


def test_task_ids_are_nobodys_business(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """With --hide-task-ids they are in no span, no entry, no line of tail or the log."""
    options = {"hide_task_ids": "", "sweep_interval": "0.2", "log_level": "debug", "OTEL_TRACES_EXPORTER": "console"}
    sidecar = start_sidecar(server.url, POLICY.replace("1h", "1s"), admin="127.0.0.1:0", **options)
    with tailing(sidecar, tmp_path, "--json") as path:
        harness.enqueue(sidecar.address, FAILED | {"id": "secret-id"})
        harness.work(sidecar.address)
        wait_until(lambda: '"sweep"' in path.read_text(), "it is not swept")
        assert "secret-id" not in path.read_text()
    assert len(call(sidecar, "/api/decisions?kind=decision")["decisions"]) == 1
    assert "secret-id" not in str(call(sidecar, "/api/decisions")) + str(call(sidecar, "/api/census"))
    assert "archive in queue default: rule default, ttl" in sidecar.log()
    sidecar.stop()
    assert '"archive default"' in sidecar.output()
    assert "secret-id" not in sidecar.output() + sidecar.log()


def test_a_report_on_a_shadowed_policy(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """Per rule how many tasks and bytes, and when they would be free; also for a policy that is not running."""
    sidecar = start_sidecar(server.url, POLICY.replace("grace", "mode: shadow\ngrace"), admin="127.0.0.1:0")
    harness.enqueue(sidecar.address, FAILED, FAILED, FAILED | {"type": "ping:a"}, {"type": "job:b", "retention": "2h"})
    harness.work(sidecar.address)
    told = json.loads(run("report", "--admin", sidecar.admin, "--json").stdout)
    assert {(line["rule"], line["state"]): line["tasks"] for line in told["rules"]} == {
        ("noise", "archived"): 1,
        ("default", "archived"): 2,
        ("default", "completed"): 1,
    }
    sizes = {(line["rule"], line["state"]): line["size_bytes"] for line in told["rules"]}
    assert told["freed_bytes"]["at once"] == sizes["noise", "archived"]
    assert told["freed_bytes"]["within 1h"] == sizes["default", "archived"]
    assert told["freed_bytes_in_force"]["within 90d"] == sizes["noise", "archived"] + sizes["default", "archived"]
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text("version: 1\nrules: [{name: only, archived: {ttl: forever}}]")
    done = run("report", "--admin", sidecar.admin, "--policy", candidate)
    assert re.search(r"only +│ archived +│ forever +│ +3 ", done.stdout)


def test_two_sidecars_on_one_host(server: Server, start_sidecar: SidecarFactory) -> None:
    """An address that was given and is taken ends it with one line."""
    first = start_sidecar(server.url, admin="127.0.0.1:0")
    done = run("serve", "--listen", "127.0.0.1:0", "--upstream", server.url, "--admin", first.admin)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"the admin server cannot listen at {first.admin}: ")
    assert "Traceback" not in done.stderr


def test_the_log_as_json(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Every line is an object; what belongs to a trace names it."""
    variables = {"OTEL_TRACES_EXPORTER": "console", "ASYNQ_TTL_LOG_FORMAT": "json"}
    sidecar = start_sidecar(server.url, POLICY, admin="127.0.0.1:0", **variables)
    harness.enqueue(sidecar.address, FAILED)
    harness.work(sidecar.address)
    sidecar.stop()
    lines = [json.loads(line) for line in sidecar.log().splitlines()]
    (wrapped,) = [line for line in lines if "(archive) is wrapped" in line["message"]]
    assert f'"trace_id": "0x{wrapped["trace_id"]}"' in sidecar.output()
    assert {line["level"] for line in lines} == {"info"}
