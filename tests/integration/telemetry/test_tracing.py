"""Every transition is a span with the attributes an operator asks for, at a real OTLP receiver and on the console."""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any
from urllib.request import Request, urlopen

import pytest
import redis as redis_py
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from support.asynq import Harness
from support.asynq_calls import CALLS
from support.otlp import Receiver, attributes, grpc_receiver, http_receiver
from support.servers import Server, Sidecar, SidecarFactory, wait_until
from support.small_scripts import UNKNOWN
from support.task_message import encode_task

POLICY = """
version: 1
grace: 30s
rules:
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: default, archived: {ttl: 1h}, completed: {ttl: keep}}
"""
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def complete(client: "redis_py.Redis", message: bytes) -> None:
    """Complete a task that is not there, by Asynq's own script."""
    call = CALLS.complete("x", message, 1, None, 1)
    client.execute_command("EVAL", call.text, *call.words)


def asked(sidecar: Sidecar, path: str, accept: str = "*/*") -> str:
    """Ask the admin server."""
    with urlopen(Request(f"http://{sidecar.admin}{path}", headers={"Accept": accept})) as answer:
        text: str = answer.read().decode()
    return text


def told(sidecar: Sidecar) -> list[dict[str, Any]]:
    """Return the decisions, newest first."""
    entries: list[dict[str, Any]] = json.loads(asked(sidecar, "/api/decisions?kind=decision"))["decisions"]
    return entries


def is_told(sidecar: Sidecar, number: int) -> bool:
    """Say whether there have been so many decisions."""
    return len(told(sidecar)) == number


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_each_transition_is_a_span(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, protocol: str
) -> None:
    """Complete, archive, delete and run: kind, name, attributes and the link to the producer's span."""
    with (grpc_receiver if protocol == "grpc" else http_receiver)() as receiver:
        sidecar = start_sidecar(
            server.url,
            POLICY,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            OTEL_SERVICE_NAME="my-sidecar",
        )
        harness.enqueue(
            sidecar.address,
            {"id": "done", "type": "job:a", "retention": "10m", "headers": {"traceparent": PARENT}},
            {"id": "dead", "type": "job:b", "payload": '{"do": "skip", "secret": "payload"}', "queue": "low"},
            {"id": "noise", "type": "ping:a", "payload": '{"do": "skip"}'},
        )
        harness.work(sidecar.address, "-queues", "default=1,low=1")
        harness.inspect(sidecar.address, {"op": "run_task", "queue": "low", "id": "dead"})
        harness.inspect(sidecar.address, {"op": "archive_all", "queue": "low", "state": "pending"})
        sidecar.stop()

    assert receiver.services == {"my-sidecar"}
    assert len(receiver.named("activate complete")) == 1
    receiver.spans = [span for span in receiver.spans if not span.name.startswith("activate ")]
    assert sorted(span.name for span in receiver.spans) == [
        *("archive default", "archive low", "archive low", "complete default", "run low")
    ]
    assert all(span.kind == Span.SPAN_KIND_CLIENT for span in receiver.spans)
    assert all(span.status.code == Status.STATUS_CODE_UNSET for span in receiver.spans)
    assert all(0 < span.end_time_unix_nano - span.start_time_unix_nano < 10**9 for span in receiver.spans)

    (complete,) = receiver.named("complete default")
    assert attributes(complete.attributes) == {
        "db.system.name": "redis",
        "db.operation.name": "EVALSHA",
        "db.stored_procedure.name": "asynq.complete",
        "db.namespace": "0",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "messaging.system": "asynq",
        "messaging.operation.type": "settle",
        "messaging.operation.name": "complete",
        "messaging.destination.name": "default",
        "messaging.message.id": "done",
        "asynq.task.type": "job:a",
        "asynq.task.state": "completed",
        "asynq_ttl.rule": "default",
        "asynq_ttl.action": "keep",
        "asynq_ttl.ttl_seconds": 630,
        "asynq_ttl.mode": "enforce",
    }
    (link,) = complete.links
    assert (link.trace_id.hex(), link.span_id.hex()) == (TRACE, SPAN)

    (deleted,) = receiver.named("archive default")
    found = attributes(deleted.attributes)
    assert (found["asynq_ttl.action"], found["asynq_ttl.rule"]) == ("delete", "noise")
    assert "asynq_ttl.ttl_seconds" not in found
    assert not deleted.links

    (run,) = receiver.named("run low")
    found = attributes(run.attributes)
    assert (found["asynq_ttl.action"], found["asynq.task.state"]) == ("persist", "pending")
    assert found["messaging.message.id"] == "dead"
    assert "payload" not in str(receiver.spans)


def test_shadow_decisions_say_so(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """In shadow mode the same spans are made, marked as what would have been done."""
    with http_receiver() as receiver:
        sidecar = start_sidecar(
            server.url,
            POLICY.replace("version: 1", "version: 1\nmode: shadow"),
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.endpoint}/v1/traces",
        )
        harness.enqueue(sidecar.address, {"id": "a", "type": "ping:a", "payload": '{"do": "skip"}'})
        harness.work(sidecar.address)
        sidecar.stop()
    (span,) = receiver.spans
    found = attributes(span.attributes)
    assert (found["asynq_ttl.mode"], found["asynq_ttl.action"]) == ("shadow", "delete")


def produce(receiver: Receiver, names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Make a producer's span for each task and export it; return the headers that its trace context is carried in."""
    exporter = OTLPSpanExporter(f"{receiver.endpoint}/v1/traces")
    provider = TracerProvider(resource=Resource.create({"service.name": "producer"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    headers: dict[str, dict[str, str]] = {}
    for name in names:
        with provider.get_tracer("producer").start_as_current_span(f"send {name}", kind=SpanKind.PRODUCER):
            carrier: dict[str, str] = {}
            TraceContextTextMapPropagator().inject(carrier)
            headers[name] = carrier | {"tracestate": "vendor=opaque"}
    provider.shutdown()
    return headers


def test_whole_traces(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """From the producer's span to what became of the task: complete, archive, re-run, sweep, shadow, fail-open."""
    policy = POLICY.replace("grace: 30s", "grace: 1s").replace("archived: {ttl: 1h}", "archived: {ttl: 1s}")
    with http_receiver() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_METRICS_EXPORTER": "none"}
        sidecar = start_sidecar(server.url, policy, sweep_interval="0.3", **variables)
        sidecar.expected_warnings.append("failed open .shape.")
        headers = produce(receiver, ("done", "dead", "again", "shadowed"))
        fails = {"payload": '{"do": "skip"}', "type": "job:b"}
        harness.enqueue(
            sidecar.address,
            {"id": "done", "type": "job:a", "retention": "10m", "headers": headers["done"]},
            fails | {"id": "dead", "headers": headers["dead"]},
            fails | {"id": "again", "queue": "low", "headers": headers["again"], "payload": '{"skip_times": 1}'},
        )
        harness.work(sidecar.address, "-queues", "default=1")
        harness.inspect(sidecar.address, {"op": "archive_task", "queue": "low", "id": "again"})
        harness.inspect(sidecar.address, {"op": "run_task", "queue": "low", "id": "again"})
        with server.client() as client:
            wait_until(lambda: client.zcard("asynq:{default}:archived") == 0, "the dead task is not swept")
        with sidecar.client() as client:
            client.eval(UNKNOWN, 1, "asynq:{q}:t:x")
        sidecar.reload(policy.replace("version: 1", "version: 1\nmode: shadow"))
        harness.enqueue(sidecar.address, fails | {"id": "shadowed", "queue": "other", "headers": headers["shadowed"]})
        harness.work(sidecar.address, "-queues", "other=1")
        sidecar.stop()

    producers = {span.span_id: span for span in receiver.spans if span.kind == Span.SPAN_KIND_PRODUCER}
    for name, task, action, mode in (
        ("complete default", "done", "keep", "enforce"),
        ("archive default", "dead", "ttl", "enforce"),
        ("archive other", "shadowed", "ttl", "shadow"),
    ):
        (span,) = receiver.named(name)
        found = attributes(span.attributes)
        assert (found["messaging.message.id"], found["asynq_ttl.action"], found["asynq_ttl.mode"]) == (
            task,
            action,
            mode,
        )
        (link,) = span.links
        assert producers[link.span_id].name == f"send {task}"
        assert producers[link.span_id].trace_id == link.trace_id
        assert link.trace_state == "vendor=opaque"
        assert producers[link.span_id].end_time_unix_nano <= span.start_time_unix_nano
    (by_hand,) = receiver.named("archive low")
    assert attributes(by_hand.attributes)["asynq_ttl.tasks"] == 1
    (run,) = receiver.named("run low")
    assert (attributes(run.attributes)["messaging.message.id"], run.status.code) == ("again", Status.STATUS_CODE_UNSET)
    sweeps = [event for span in receiver.named("sweep default") for event in span.events]
    assert [attributes(event.attributes)["messaging.message.id"] for event in sweeps] == ["dead"]
    (failed,) = receiver.named("fail_open shape")
    found = attributes(failed.attributes)
    assert (found["messaging.destination.name"], found["messaging.message.id"]) == ("q", "x")
    assert (failed.status.code, found["db.stored_procedure.name"]) == (Status.STATUS_CODE_ERROR, "asynq.unknown")
    (reload,) = receiver.named("reload policy")
    assert attributes(reload.attributes)["asynq_ttl.mode"] == "shadow"
    assert {span.name for span in receiver.spans} >= {"activate archive", "activate complete", "activate run_one"}


def test_bulk_operations_name_some_of_their_tasks(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """One span with the number of tasks; up to 20 of their IDs are events, and none of any other task."""
    with http_receiver() as receiver:
        sidecar = start_sidecar(server.url, POLICY, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        mine = [f"mine-{number}" for number in range(30)]
        harness.enqueue(sidecar.address, *({"id": name, "type": "job:a", "process_in": "1h"} for name in mine))
        harness.enqueue(sidecar.address, {"id": "other", "type": "job:a"})
        harness.inspect(sidecar.address, {"op": "archive_all", "queue": "default", "state": "scheduled"})
        harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
        harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
        sidecar.stop()
    (archive,) = receiver.named("archive default")
    first, second = sorted(receiver.named("run default"), key=lambda span: span.start_time_unix_nano)
    assert attributes(second.attributes)["asynq_ttl.tasks"] == 0
    assert not second.events
    for span in (archive, first):
        assert attributes(span.attributes)["asynq_ttl.tasks"] == 30
        named = [attributes(event.attributes)["messaging.message.id"] for event in span.events]
        assert len(set(named)) == len(named) == 20
        assert set(named) <= set(mine)


def test_a_bulk_operation_tells_what_its_tasks_got(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """By what is in Redis afterwards, not by what could be: in span, metric, entry and log; the replies stay."""
    rules = """
rules:
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: money, match: {type: "pay:*"}, archived: {ttl: forever}}
  - {name: default, archived: {ttl: 1h}}
"""
    policy = "version: 1\n" + rules
    kinds = {"ping:a": 3, "pay:a": 2, "job:a": 5}
    with http_receiver() as receiver:
        sidecar = start_sidecar(server.url, policy, admin="127.0.0.1:0", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        tasks = [{"type": kind, "process_in": "1h"} for kind, count in kinds.items() for _ in range(count)]
        harness.enqueue(sidecar.address, *tasks)
        sources = (("archive", "scheduled"), ("run", "archived"), ("archive", "pending"), ("delete", "archived"))
        for number, (op, state) in enumerate(sources, 1):
            harness.inspect(sidecar.address, {"op": f"{op}_all", "queue": "default", "state": state})
            wait_until(partial(is_told, sidecar, number), "it is not told")
        entries = [one["tasks_by_action"] for one in reversed(told(sidecar))]
        metrics = asked(sidecar, "/metrics")
        sidecar.stop()
    expected = [{"ttl": 5, "none": 2, "gone": 3}, {"persist": 7}, {"ttl": 5, "none": 2}, {"delete": 7}]
    assert entries == expected
    spans = sorted(
        (span for span in receiver.spans if span.name.endswith(" default")), key=lambda span: span.start_time_unix_nano
    )
    prefix = "asynq_ttl.tasks."
    assert expected == [
        {name[len(prefix) :]: value for name, value in attributes(span.attributes).items() if name.startswith(prefix)}
        for span in spans
    ]
    labels = 'asynq_queue="default",asynq_task_state="archived",asynq_ttl_action="ttl"'
    assert f"asynq_ttl_bulk_tasks_total{{{labels}}} 10" in metrics
    assert "by hand, archive in queue default: 10 tasks (5 ttl, 2 none, 3 gone)" in sidecar.log()


def test_a_payload_can_carry_the_trace_context(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """With --trace-path the link is found in the JSON payload of a task without headers."""
    with http_receiver() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        sidecar = start_sidecar(redis_server.url, POLICY, trace_path="meta.traceparent", **variables)
        payload = json.dumps({"do": "skip", "meta": {"traceparent": PARENT, "tracestate": "a=b"}})
        harness.enqueue(sidecar.address, {"id": "a", "type": "job:a", "payload": payload})
        harness.work(sidecar.address)
        sidecar.stop()
    (link,) = receiver.named("archive default")[0].links
    assert (link.trace_id.hex(), link.span_id.hex(), link.trace_state) == (TRACE, SPAN, "a=b")
    assert "meta" not in str(receiver.spans)


def test_a_sampler_is_followed(redis_server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """OTEL_TRACES_SAMPLER and its argument say how many decisions are traced; all are counted."""
    with http_receiver() as receiver:
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": "0.2",
            "OTEL_METRICS_EXPORTER": "console",
        }
        sidecar = start_sidecar(redis_server.url, POLICY, **variables)
        harness.enqueue(sidecar.address, {"type": "job:a", "payload": '{"do": "skip"}', "repeat": 300})
        harness.work(sidecar.address, "-concurrency", "20")
        sidecar.stop()
    assert 25 <= len(receiver.named("archive default")) <= 100
    assert '"value": 300' in sidecar.output()


def test_an_error_reply_is_the_spans_status(server: Server, start_sidecar: SidecarFactory) -> None:
    """A script that fails makes a span with error status, by the prefix of the reply."""
    with http_receiver() as receiver:
        sidecar = start_sidecar(server.url, POLICY, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        with sidecar.client() as client, pytest.raises(Exception, match="NOT FOUND"):
            complete(client, encode_task("x", ""))
        sidecar.stop()
    (span,) = receiver.named("complete q")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert "NOT FOUND" in span.status.message
    assert attributes(span.attributes)["error.type"] in ("NOT", "ERR")


def test_the_console_exporter(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """OTEL_TRACES_EXPORTER=console writes spans to standard output; `none` and OTEL_SDK_DISABLED write none."""
    outputs = {}
    for name, variables in {
        "console": {"OTEL_TRACES_EXPORTER": "console"},
        "none": {"OTEL_TRACES_EXPORTER": "none"},
        "disabled": {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
        "counters": {"OTEL_METRICS_EXPORTER": "console"},
    }.items():
        server.reset()
        sidecar = start_sidecar(server.url, POLICY, **variables)
        harness.enqueue(sidecar.address, {"id": "a", "type": "job", "payload": '{"do": "skip"}'})
        harness.work(sidecar.address)
        sidecar.stop()
        outputs[name] = sidecar.output()
    assert '"name": "archive default"' in outputs["console"]
    assert outputs["none"] == outputs["disabled"] == ""
    assert '"asynq_ttl.decisions"' in outputs["counters"]
    assert '"asynq_ttl.commands"' in outputs["counters"]


def test_a_collector_that_is_down_slows_nothing(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Without a collector at the endpoint tasks are processed and the sidecar stops within its bound."""
    sidecar = start_sidecar(server.url, POLICY, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    sidecar.expected_warnings.append(".")
    harness.enqueue(sidecar.address, *({"type": "job", "payload": '{"do": "skip"}'} for _ in range(50)))
    events = harness.work(sidecar.address)
    assert events[-1]["processed"] == 50
    assert sidecar.stop() == 0


def test_the_latency_names_traces(redis_server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """In OpenMetrics, of replies alone; and each is one that was exported."""
    with http_receiver() as receiver:
        sidecar = start_sidecar(
            redis_server.url, POLICY, admin="127.0.0.1:0", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint
        )
        # One reply in 50 ms is timed. So many tasks end meanwhile that it is often the reply of one that ended.
        harness.enqueue(sidecar.address, {"type": "job:a", "payload": '{"do": "skip"}', "repeat": 5000})
        worker = harness.serve(sidecar.address, "-concurrency", "4")

        def named() -> dict[tuple[str, str], str]:
            """Return the traces by the buckets that name them."""
            text = asked(sidecar, "/metrics", "application/openmetrics-text")
            families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # the parser has no types
            buckets = [sample for family in families for sample in family.samples if sample.exemplar is not None]
            assert {sample.name for sample in buckets} <= {"asynq_ttl_latency_seconds_bucket"}
            return {
                (sample.labels["direction"], sample.labels["le"]): sample.exemplar.labels["trace_id"]
                for sample in buckets
            }

        wait_until(named, "no bucket names a trace", 30)
        traces = named()
        worker.kill()
        sidecar.stop()
    assert {direction for direction, _ in traces} == {"reply"}
    assert set(traces.values()) <= {span.trace_id.hex() for span in receiver.named("archive default")}
