"""Spans as OTLP bytes, several times as fast as the SDK encodes them.

A protocol buffer message is the concatenation of its fields, and the spans of a sidecar have nearly all their
attributes in common. So the bytes of each attribute are made once, by protobuf, and remembered; a span is put together
from them. What is rare (events, a status, trace state) is encoded by the SDK's own encoder, and so are resource and
scope.

Source of the field numbers: `opentelemetry/proto/trace/v1/trace.proto`, message `Span`. That both encoders say the same
is tested.
"""

import struct
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

# Attributes whose bytes are remembered; past it all are forgotten. (Task types and queue names come from clients.)
_MAX_REMEMBERED = 10_000
# Differs from span to span, so remembering it is of no use.
_UNIQUE = "messaging.message.id"

# Tags: the field's number times eight, plus how it is written (0 varint, 1 eight bytes, 2 length first, 5 four bytes).
_TRACE_ID, _SPAN_ID = b"\x0a\x10", b"\x12\x08"
_NAME, _ATTRIBUTE = b"\x2a", b"\x4a"
_TIMES = struct.Struct("<BBBQBQ")
_KIND_TAG, _START_TAG, _END_TAG = 6 << 3, 7 << 3 | 1, 8 << 3 | 1
# Flag 0x100: it is known whether the parent, or what is linked to, is remote; 0x200: it is.
_FLAGS = b"\x85\x01" + struct.pack("<I", 0x100)
_REMOTE = 0x300
_LINK = b"\x6a"
_NO_STATUS = b"\x7a\x00"
_SCOPE_SPANS = b"\x12"
_SPANS = b"\x12"
_RESOURCE_SPANS = b"\x0a"


class Encoder:
    """Encodes batches of spans of one resource and one scope."""

    def __init__(self) -> None:
        self._attributes: dict[tuple[str, object], bytes] = {}
        self._resource = b""
        self._scope = b""

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """Return an `ExportTraceServiceRequest` as bytes.

        Args:
            spans: at least one; all of the same resource and scope.
        """
        if not self._resource:
            self._learn(spans[0])
        scope_spans = self._scope + b"".join(_sized(_SPANS, self._span(span)) for span in spans)
        return _sized(_RESOURCE_SPANS, self._resource + _sized(_SCOPE_SPANS, scope_spans))

    def _learn(self, span: ReadableSpan) -> None:
        """Keep what the SDK's encoder says of resource and scope."""
        (resource_spans,) = encode_spans([span]).resource_spans
        scope_spans = resource_spans.scope_spans[0]
        scope = ScopeSpans(scope=scope_spans.scope, schema_url=scope_spans.schema_url)
        self._scope = scope.SerializeToString()
        resource = ResourceSpans(resource=resource_spans.resource, schema_url=resource_spans.schema_url)
        self._resource = resource.SerializeToString()

    def _span(self, span: ReadableSpan) -> bytes:
        context = span.context
        parts = [
            _TRACE_ID,
            context.trace_id.to_bytes(16, "big"),
            _SPAN_ID,
            context.span_id.to_bytes(8, "big"),
            _sized(_NAME, span.name.encode()),
            # OTLP counts kinds from one, since nought is for what is not said.
            _TIMES.pack(_KIND_TAG, span.kind.value + 1, _START_TAG, span.start_time or 0, _END_TAG, span.end_time or 0),
            _FLAGS,
        ]
        remembered = self._attributes
        for name, value in (span.attributes or {}).items():
            known = remembered.get((name, value))
            parts.append(known if known is not None else self._attribute(name, value))
        for link in span.links:
            linked = Span.Link(
                trace_id=link.context.trace_id.to_bytes(16, "big"),
                span_id=link.context.span_id.to_bytes(8, "big"),
                trace_state=link.context.trace_state.to_header(),
                flags=_REMOTE,
            )
            parts.append(_sized(_LINK, linked.SerializeToString()))
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
