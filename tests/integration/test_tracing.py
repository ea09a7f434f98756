"""Every transition is a span with the attributes an operator asks for, at a real OTLP receiver and on the console."""

import time

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from asynq import Harness
from asynq_source import scripts
from otlp import attributes, grpc_receiver, http_receiver
from servers import Server, SidecarFactory

POLICY = """
version: 1
grace: 30s
rules:
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: default, archived: {ttl: 1h}, completed: {ttl: keep}}
"""
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


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


def test_an_error_reply_is_the_spans_status(server: Server, start_sidecar: SidecarFactory) -> None:
    """A script that fails makes a span with error status, by the prefix of the reply."""
    with http_receiver() as receiver:
        sidecar = start_sidecar(server.url, POLICY, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        keys = [f"asynq:{{q}}:{part}" for part in ("active", "lease", "completed", "t:x", "processed:d", "processed")]
        with sidecar.client() as client, pytest.raises(Exception, match="NOT FOUND"):
            client.eval(scripts("v0.26.0")["markAsCompleteCmd"], 6, *keys, "x", "1", "2", b"\x0a\x01x", "9")
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
    started = time.monotonic()
    assert sidecar.stop() == 0
    assert time.monotonic() - started < 8
