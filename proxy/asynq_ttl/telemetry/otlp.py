"""Spans as OTLP bytes, several times as fast as the SDK encodes them.

A protocol buffer message is the concatenation of its fields, and the spans of a sidecar have nearly all their
attributes in common. So the bytes of each attribute are made once, by protobuf, and remembered; a span is put together
from them. What is rare (events, a status, trace state) is encoded by the SDK's own encoder, and so are resource and
scope.

The span of a decision is put together at once (`Ready`). What waits for export is then bytes, and the thread that
exports has next to nothing to do, so that it does not hold up the data path.

Source of the field numbers: `opentelemetry/proto/trace/v1/trace.proto`, message `Span`. That both encoders say the same
is tested.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, StatusCode, TraceFlags

# Attributes whose bytes are remembered; past it all are forgotten. (Task types and queue names come from clients.)
_MAX_REMEMBERED = 10_000
# Differs from span to span, so remembering it is of no use.
_UNIQUE = "messaging.message.id"
_UNIQUE_KEY = bytes((0x0A, len(_UNIQUE))) + _UNIQUE.encode()
SCOPE = InstrumentationScope("asynq_ttl")

# Tags: the field's number times eight, plus how it is written (0 varint, 1 eight bytes, 2 length first, 5 four bytes).
_TRACE_ID, _SPAN_ID = b"\x0a\x10", b"\x12\x08"
_NAME, _ATTRIBUTE = b"\x2a", b"\x4a"
_TIMES = struct.Struct("<BBBQBQ")
_KIND_TAG, _START_TAG, _END_TAG = 6 << 3, 7 << 3 | 1, 8 << 3 | 1
# Flag 0x100: it is known whether the parent, or what is linked to, is remote; 0x200: it is.
_FLAGS = b"\x85\x01" + struct.pack("<I", 0x100)
_REMOTE = 0x300
_LINK = b"\x6a"
# OTLP counts kinds from one, since nought is for what is not said.
_KIND_OFFSET = 1
_CLIENT = SpanKind.CLIENT.value + _KIND_OFFSET
_NO_STATUS = b"\x7a\x00"
_SCOPE_SPANS = b"\x12"
_SPANS = b"\x12"
_RESOURCE_SPANS = b"\x0a"


class Ready(bytes):
    """A span that is encoded already, in the place of one for the SDK's batch processor, which looks at its context."""

    __slots__ = ()
    context = SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class Linked(NamedTuple):
    """A span of another service: its IDs, and the trace state as in a header."""

    trace_id: int
    span_id: int
    trace_state: str


class Encoder:
    """Encodes the spans of one resource.

    Args:
        resource: what all the spans are about.
    """

    def __init__(self, resource: Resource) -> None:
        self._attributes: dict[tuple[str, object], bytes] = {}
        span = ReadableSpan("", context=Ready.context, resource=resource, instrumentation_scope=SCOPE)
        # What the SDK's own encoder says of resource and scope.
        (resource_spans,) = encode_spans([span]).resource_spans
        scope_spans = resource_spans.scope_spans[0]
        scope = ScopeSpans(scope=scope_spans.scope, schema_url=scope_spans.schema_url)
        self._scope = scope.SerializeToString()
        about = ResourceSpans(resource=resource_spans.resource, schema_url=resource_spans.schema_url)
        self._resource = about.SerializeToString()

    def encode(self, spans: Sequence[ReadableSpan | Ready]) -> bytes:
        """Return a batch of spans as an `ExportTraceServiceRequest` in bytes."""
        fields = [span if type(span) is Ready else _sized(_SPANS, self._span(span)) for span in spans]  # type: ignore[arg-type] # mypy does not follow
        return _sized(_RESOURCE_SPANS, self._resource + _sized(_SCOPE_SPANS, self._scope + b"".join(fields)))

    def block(self, attributes: Mapping[str, str | int]) -> bytes:
        """Return attributes in bytes, to be part of many spans."""
        return b"".join(self._attribute(name, value) for name, value in attributes.items())

    def ready(
        self,
        name: str,
        ids: tuple[int, int],
        times: tuple[int, int],
        block: bytes,
        *,
        task_id: str,
        link: Linked | None,
    ) -> Ready:
        """Return a span of kind client, without events and with its status unset.

        Args:
            name: its name.
            ids: those of the trace and of the span.
            times: start and end in nanoseconds since the epoch.
            block: all of its attributes but the task ID, as `block` gives them.
            task_id: the task; empty for none.
            link: what it is linked to.
        """
        content = b"".join(
            (
                _TRACE_ID,
                ids[0].to_bytes(16, "big"),
                _SPAN_ID,
                ids[1].to_bytes(8, "big"),
                _sized(_NAME, name.encode()),
                _TIMES.pack(_KIND_TAG, _CLIENT, _START_TAG, times[0], _END_TAG, times[1]),
                _FLAGS,
                block,
                _unique(task_id) if task_id else b"",
                _link(link) if link is not None else b"",
                _NO_STATUS,
            )
        )
        return Ready(_sized(_SPANS, content))

    def _span(self, span: ReadableSpan) -> bytes:
        context, kind = span.context, span.kind.value + _KIND_OFFSET
        parts = [
            _TRACE_ID,
            context.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            context.span_id.to_bytes(8, "big"),
            _sized(_NAME, span.name.encode()),
            _TIMES.pack(_KIND_TAG, kind, _START_TAG, span.start_time or 0, _END_TAG, span.end_time or 0),
            _FLAGS,
        ]
        remembered = self._attributes
        for name, value in (span.attributes or {}).items():
            known = remembered.get((name, value))
            parts.append(known if known is not None else self._attribute(name, value))
        for link in span.links:
            to = link.context
            parts.append(_link(Linked(to.trace_id, to.span_id, to.trace_state.to_header())))
        if span.events or context.trace_state or span.status.status_code is not StatusCode.UNSET:
            parts.append(_rare(span))
        else:
            parts.append(_NO_STATUS)
        return b"".join(parts)

    def _attribute(self, name: str, value: object) -> bytes:
        content = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=str(value))
        encoded = _sized(_ATTRIBUTE, KeyValue(key=name, value=content).SerializeToString())
        if name != _UNIQUE:
            if len(self._attributes) >= _MAX_REMEMBERED:
                self._attributes.clear()
            self._attributes[name, value] = encoded
        return encoded


def _link(link: Linked) -> bytes:
    linked = Span.Link(
        trace_id=link.trace_id.to_bytes(16, "big"),
        span_id=link.span_id.to_bytes(8, "big"),
        trace_state=link.trace_state,
        flags=_REMOTE,
    )
    return _sized(_LINK, linked.SerializeToString())


def _unique(task_id: str) -> bytes:
    """Return the attribute with a task ID: a `KeyValue` (key 1, value 2) whose value is an `AnyValue` (text 1)."""
    return _sized(_ATTRIBUTE, _UNIQUE_KEY + _sized(b"\x12", _sized(b"\x0a", task_id.encode())))


class Encoded:
    """A request that is bytes already, in the place of a protobuf message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializePartialToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Return the bytes."""
        return self._data


def message_of(data: bytes) -> ExportTraceServiceRequest:
    """Return an encoded request as a message, for transports that want one."""
    return ExportTraceServiceRequest.FromString(data)


def _rare(span: ReadableSpan) -> bytes:
    """Return the fields of a span that few have, as the SDK's encoder says them."""
    whole = encode_spans([span]).resource_spans[0].scope_spans[0].spans[0]
    return Span(events=whole.events, trace_state=whole.trace_state, status=whole.status).SerializeToString()


def _sized(tag: bytes, content: bytes) -> bytes:
    """Return a field that is written with its length first."""
    length = len(content)
    if length < 0x80:
        return tag + bytes((length,)) + content
    size = bytearray()
    while length > 0x7F:
        size.append(length & 0x7F | 0x80)
        length >>= 7
    size.append(length)
    return tag + size + content
