"""Spans as OTLP bytes: what the sidecar's encoder says is what the SDK's says."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from asynq_ttl.events import Activated, FailedOpen, FailOpen
from asynq_ttl.telemetry import otlp
from asynq_ttl.telemetry.exporters import resource_of, span_exporters
from asynq_ttl.telemetry.otlp import Encoder, Ready, message_of
from asynq_ttl.telemetry.spans import Spans
from support.recorded import ARCHIVE_SHA, END, START, UPSTREAM, outcome, swept

RESOURCE = resource_of({})
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Memory(SpanExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Any) -> SpanExportResult:
        """Take spans."""
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """End."""


def every_kind(encoder: Encoder | None = None, **changes: object) -> list[ReadableSpan]:
    """Return spans of every kind that the sidecar makes; the changes are those of a decision."""
    memory = Memory()
    spans = Spans([memory], RESOURCE, UPSTREAM, task_ids=True, encoder=encoder)
    for reply in (b"+OK", b":12", b"-NOT FOUND", b""):
        spans.settled(outcome(reply, **changes), "enforce")
        spans.settled(outcome(reply, traceparent=PARENT, **changes), "shadow")
    spans.swept(swept(*map(str, range(30)), ghosts=2))
    spans.failed_open(FailedOpen(FailOpen.MESSAGE, "truncated", START, "archive", ARCHIVE_SHA, "mail", "id-1"))
    spans.activated(Activated("archive", "ab", "cd", START, END))
    spans.reloaded("abc", "enforce", START, END, "line 3")
    spans.shutdown(5)
    return memory.spans


def by_the_sdk(spans: list[ReadableSpan]) -> ExportTraceServiceRequest:
    """Return what the SDK's encoder makes of spans."""
    return ExportTraceServiceRequest.FromString(encode_spans(spans).SerializeToString())


def test_every_kind_of_span_is_encoded_as_the_sdk_does() -> None:
    """Decisions with and without links, errors, events, everything."""
    spans = every_kind()
    encoder = Encoder(RESOURCE)
    for _ in range(2):  # the second time from what is remembered
        assert message_of(encoder.encode(spans)) == by_the_sdk(spans)


@settings(deadline=None)  # threads start and end
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text(max_size=300),
    st.none() | st.integers(0, 2**62),
)
def test_any_text_and_number(task_id: str, task_type: str, ttl_seconds: int | None) -> None:
    """Lengths around those where the length takes another byte, and any characters."""
    spans = every_kind(task_id=task_id, task_type=task_type, queue=task_type, ttl_seconds=ttl_seconds)
    assert message_of(Encoder(RESOURCE).encode(spans)) == by_the_sdk(spans)


@settings(deadline=None)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text(max_size=300),
    st.none() | st.integers(0, 2**62),
    st.sampled_from(["", PARENT]),
)
def test_a_span_that_is_put_together_at_once_is_the_same(
    task_id: str, task_type: str, ttl_seconds: int | None, traceparent: str
) -> None:
    """But for its IDs, whether it is made of remembered bytes or as a span of the SDK."""
    encoder = Encoder(RESOURCE)
    decided = outcome(
        task_id=task_id, task_type=task_type, queue=task_type, ttl_seconds=ttl_seconds, traceparent=traceparent
    )
    found = []
    for given_encoder in (None, encoder, encoder):
        memory = Memory()
        spans = Spans([memory], RESOURCE, UPSTREAM, task_ids=True, encoder=given_encoder)
        spans.settled(decided, "enforce")
        spans.shutdown(5)
        (one,) = memory.spans
        assert isinstance(one, Ready) == (given_encoder is not None)
        request = message_of(encoder.encode([one]))
        (span,) = request.resource_spans[0].scope_spans[0].spans
        assert (len(span.trace_id), len(span.span_id)) == (16, 8)
        span.trace_id = span.span_id = b""
        attributes = sorted(span.attributes, key=lambda pair: pair.key)
        del span.attributes[:]
        span.attributes.extend(attributes)
        found.append(request)
    assert found[0] == found[1] == found[2]


def test_the_trace_state_of_a_link_is_kept() -> None:
    """The SDK's encoder leaves it out."""
    memory = Memory()
    spans = Spans([memory], RESOURCE, UPSTREAM, task_ids=True)
    spans.settled(outcome(traceparent=PARENT, tracestate="a=b,c=d"), "enforce")
    spans.shutdown(5)
    (span,) = message_of(Encoder(RESOURCE).encode(memory.spans)).resource_spans[0].scope_spans[0].spans
    assert span.links[0].trace_state == "a=b,c=d"


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Task IDs are not, and past the limit all is forgotten."""
    monkeypatch.setattr(otlp, "_MAX_REMEMBERED", 20)
    encoder = Encoder(RESOURCE)
    for number in range(100):
        spans = every_kind(task_id=f"id-{number}", task_type=f"type-{number}")[:1]
        assert message_of(encoder.encode(spans)) == by_the_sdk(spans)
    assert len(encoder._attributes) <= 20
    assert not any(name == "messaging.message.id" for name, _ in encoder._attributes)


def test_both_exporters_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they send is what the encoder made."""
    calls: list[int] = []
    encode = Encoder.encode

    def counted(encoder: Encoder, spans: Any) -> bytes:
        calls.append(len(spans))
        return encode(encoder, spans)

    monkeypatch.setattr(Encoder, "encode", counted)
    spans = every_kind()
    for module, protocol in ((http, "http/protobuf"), (grpc, "grpc")):
        before = module.encode_spans
        monkeypatch.setattr(module, "encode_spans", before)
        environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        (exporter,), encoder = span_exporters(environment, RESOURCE)
        assert encoder is not None
        request = module.encode_spans(spans)
        assert ExportTraceServiceRequest.FromString(request.SerializePartialToString()) == by_the_sdk(spans)
        exporter.shutdown()
    assert calls == [len(spans)] * 2


@pytest.mark.parametrize(("module", "protocol"), [(http, "http/protobuf"), (grpc, "grpc")])
def test_an_exporter_without_that_name_gets_spans_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch, module: Any, protocol: str
) -> None:
    """A later version may look its encoder up elsewhere: then it is left to it."""
    monkeypatch.delattr(module, "encode_spans")
    environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    (exporter,), encoder = span_exporters(environment, RESOURCE)
    assert encoder is None
    assert not hasattr(module, "encode_spans")
    exporter.shutdown()


@pytest.mark.parametrize(
    ("traceparent", "linked"),
    [
        (PARENT, True),
        (PARENT.replace("00-", "01-", 1) + "-more", True),
        (PARENT + "-more", False),
        (PARENT.replace("00-", "ff-", 1), False),
        (PARENT.upper(), False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        ("00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01", False),
        ("nonsense", False),
        (PARENT + "\n", False),
    ],
)
def test_which_trace_contexts_are_linked_to(traceparent: str, *, linked: bool) -> None:
    """Valid ones by W3C's recommendation; anything else is no fault and no link."""
    memory = Memory()
    spans = Spans([memory], RESOURCE, UPSTREAM, task_ids=True)
    spans.settled(outcome(traceparent=traceparent), "enforce")
    spans.shutdown(5)
    (span,) = memory.spans
    assert bool(span.links) == linked
