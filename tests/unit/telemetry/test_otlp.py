"""Spans as OTLP bytes: what the sidecar's encoder says is what the SDK's says."""

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import TraceState

from asynq_ttl.events import Activated, FailedOpen, FailOpen
from asynq_ttl.telemetry import otlp
from asynq_ttl.telemetry.finished_span import FinishedSpan, LinkedSpan, TaskEvents, as_sdk_span
from asynq_ttl.telemetry.otlp import EncodedRequest, Encoder, Ready, encode, message_of, share
from asynq_ttl.telemetry.spans import Spans
from support.kept_spans import RESOURCE, Memory
from support.recorded import ARCHIVE_SHA, END, START, UPSTREAM, outcome, swept

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def every_kind(**changes: object) -> tuple[list[ReadableSpan], list[Ready]]:
    """Return spans of every kind, as the SDK has them and in bytes; the changes are those of a decision."""
    of_the_sdk, in_bytes = Memory(), Memory()
    spans = Spans([of_the_sdk.of_the_sdk(), in_bytes.in_bytes()], RESOURCE, UPSTREAM, task_ids=True)
    for reply in (b"+OK", b":12", b"-NOT FOUND", b""):
        spans.decided(outcome(reply, **changes), "enforce")
        spans.decided(outcome(reply, traceparent=PARENT, **changes), "shadow")
        spans.decided(outcome(reply, **changes), "enforce")  # from what is remembered
    spans.swept(swept(*map(str, range(30)), ghosts=2))
    spans.failed_open(FailedOpen(FailOpen.MESSAGE, "truncated", START, "archive", ARCHIVE_SHA, "mail", "id-1"))
    spans.activated(Activated("archive", "ab", "cd", START, END))
    spans.reloaded("abc", "enforce", START, END, "line 3")
    spans.switched("127.0.0.1:1", START, END)
    spans.shutdown(5)
    return of_the_sdk.spans, in_bytes.spans


def by_the_sdk(spans: list[ReadableSpan]) -> ExportTraceServiceRequest:
    """Return what the SDK's encoder makes of spans."""
    return ExportTraceServiceRequest.FromString(encode_spans(spans).SerializeToString())


def test_every_kind_of_span_is_encoded_as_the_sdk_does() -> None:
    """Decisions with and without links, errors, events, everything."""
    spans, encoded = every_kind()
    assert len(encoded) == 17
    assert all(type(span) is Ready for span in encoded)
    assert message_of(Encoder(RESOURCE).request(encoded)) == by_the_sdk(spans)


@settings(deadline=None)  # threads start and end
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300),
    st.text(max_size=300),
    st.none() | st.integers(0, 2**62),
)
def test_any_text_and_number(task_id: str, task_type: str, ttl_seconds: int | None) -> None:
    """Lengths around those where the length takes another byte, and any characters."""
    spans, encoded = every_kind(task_id=task_id, task_type=task_type, queue=task_type, ttl_seconds=ttl_seconds)
    assert message_of(Encoder(RESOURCE).request(encoded)) == by_the_sdk(spans)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
attributes = st.dictionaries(texts, texts | st.integers(-(2**62), 2**62), max_size=5)


@given(
    st.builds(
        FinishedSpan,
        texts,
        st.integers(1, 2**128 - 1),
        st.integers(1, 2**64 - 1),
        st.none() | st.just(TraceState([("vendor", "opaque")])),
        st.integers(0, 2**63),
        st.integers(0, 2**63),
        attributes.map(share),
        texts,
        st.none() | st.just(LinkedSpan(7, 8, "")),
        st.none() | attributes,
        st.none() | texts,
        st.none() | st.builds(TaskEvents, texts, st.lists(texts, max_size=3)),
        st.booleans(),
    )
)
def test_any_span_is_encoded_as_the_sdk_does(span: FinishedSpan) -> None:
    """Whatever is told together, also what the sidecar does not."""
    span = span._replace(attributes={f"own {name}": value for name, value in (span.attributes or {}).items()})
    encoded = message_of(Encoder(RESOURCE).request([encode(span)]))
    assert encoded == by_the_sdk([as_sdk_span(span, RESOURCE)])


def test_the_trace_state_of_a_link_is_kept() -> None:
    """The SDK's encoder leaves it out."""
    memory = Memory()
    spans = Spans([memory.in_bytes()], RESOURCE, UPSTREAM, task_ids=True)
    spans.decided(outcome(traceparent=PARENT, tracestate="a=b,c=d"), "enforce")
    spans.shutdown(5)
    (span,) = message_of(Encoder(RESOURCE).request(memory.spans)).resource_spans[0].scope_spans[0].spans
    assert span.links[0].trace_state == "a=b,c=d"


def test_attributes_are_remembered_and_task_ids_are_not() -> None:
    """What is remembered is bounded, and what differs from span to span is no part of it."""
    assert otlp._attribute.cache_info().maxsize == otlp._MAX_REMEMBERED
    every_kind(task_id="id-0")
    before = otlp._attribute.cache_info()
    for number in range(1, 5):
        every_kind(task_id=f"id-{number}")
    after = otlp._attribute.cache_info()
    assert after.misses == before.misses
    assert after.hits > before.hits


def test_a_request_in_bytes_stands_for_the_message() -> None:
    """Transports ask it for its bytes as they would ask protobuf's."""
    request = Encoder(RESOURCE).request(every_kind()[1])
    assert EncodedRequest(request).SerializePartialToString() is request
    assert message_of(request) == ExportTraceServiceRequest.FromString(request)
