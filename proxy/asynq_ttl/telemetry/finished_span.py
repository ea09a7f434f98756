"""A span that is over, as the sidecar describes it: what `spans` makes, and what `otlp` or the SDK's exporters encode.

No span is ever open here, so this is plain data. What the SDK wants instead is made of it by `as_sdk_span`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

CONVENTIONS = "https://opentelemetry.io/schemas/1.44.0"
"""The version of OpenTelemetry's semantic conventions that the attributes follow."""
SCOPE = InstrumentationScope("asynq_ttl", schema_url=CONVENTIONS)

Attributes = Mapping[str, str | int]

# Tasks that the events of one span name.
MAX_IDS = 20

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SharedAttributes(NamedTuple):
    """Attributes that many spans have in common, and their bytes, which are made once (`otlp.share`)."""

    attributes: Attributes
    encoded: bytes


class LinkedSpan(NamedTuple):
    """A span of another service: its IDs, and its trace state as in a header."""

    trace_id: int
    span_id: int
    trace_state: str


class TaskEvents(NamedTuple):
    """An event of one name for each of several tasks, at the end of the span."""

    name: str
    task_ids: Sequence[str]


class FinishedSpan(NamedTuple):
    """A span that is over: a tuple, since each task that ends has one.

    Attributes:
        name: its name.
        trace_id: the trace, which it is the root of.
        span_id: its own ID.
        trace_state: the trace's, as the sampler says; None or empty for none.
        start_ns: when it began, nanoseconds since the epoch.
        end_ns: when it ended.
        shared: the attributes that it has in common with others.
        task_id: the task it is about; empty for none.
        link: what it is linked to; None for nothing.
        attributes: those that it has besides, without the task.
        error: what went wrong; None leaves its status unset.
        events: what it tells of several tasks; None for nothing.
        internal: whether it is about the sidecar alone, not about a call of Redis.
    """

    name: str
    trace_id: int
    span_id: int
    trace_state: TraceState | None
    start_ns: int
    end_ns: int
    shared: SharedAttributes
    task_id: str = ""
    link: LinkedSpan | None = None
    attributes: Attributes | None = None
    error: str | None = None
    events: TaskEvents | None = None
    internal: bool = False


def as_sdk_span(span: FinishedSpan, resource: Resource) -> ReadableSpan:
    """Return a span as the SDK has it.

    Args:
        span: the span.
        resource: what it is about.
    """
    task = {"messaging.message.id": span.task_id} if span.task_id else {}
    events = span.events or TaskEvents("", ())
    return ReadableSpan(
        name=span.name,
        context=SpanContext(
            span.trace_id, span.span_id, is_remote=False, trace_flags=_SAMPLED, trace_state=span.trace_state
        ),
        resource=resource,
        attributes={**span.shared.attributes, **task, **(span.attributes or {})},
        events=[Event(events.name, {"messaging.message.id": each}, span.end_ns) for each in events.task_ids],
        links=[_sdk_link(span.link)] if span.link is not None else (),
        kind=SpanKind.INTERNAL if span.internal else SpanKind.CLIENT,
        status=Status(StatusCode.UNSET) if span.error is None else Status(StatusCode.ERROR, span.error),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=SCOPE,
    )


def _sdk_link(link: LinkedSpan) -> Link:
    state = TraceState.from_header([link.trace_state])
    return Link(SpanContext(link.trace_id, link.span_id, is_remote=True, trace_state=state))
