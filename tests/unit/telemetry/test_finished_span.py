"""A span that is over, as the SDK has it."""

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, TraceState

from asynq_ttl.telemetry.finished_span import FinishedSpan, LinkedSpan, SharedAttributes, TaskEvents, as_sdk_span
from support.kept_spans import RESOURCE
from support.recorded import END, START

SHARED = SharedAttributes({"asynq.task.state": "archived"}, b"")
USUAL = FinishedSpan("archive mail", 7, 8, None, START, END, SHARED, "id-1")


def sdk(span: FinishedSpan) -> ReadableSpan:
    """Return a span as the SDK has it."""
    return as_sdk_span(span, RESOURCE)


def test_the_usual_span() -> None:
    """A call of Redis that went well: what it shares, its task, its times."""
    span = sdk(USUAL)
    assert (span.name, span.kind, span.status.status_code) == ("archive mail", SpanKind.CLIENT, StatusCode.UNSET)
    assert (span.start_time, span.end_time) == (START, END)
    assert span.attributes == {"asynq.task.state": "archived", "messaging.message.id": "id-1"}
    assert span.context is not None
    assert (span.context.trace_id, span.context.span_id, span.context.trace_flags.sampled) == (7, 8, True)
    assert (span.parent, span.links, span.events) == (None, (), ())
    assert span.resource is RESOURCE
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "asynq_ttl"


def test_all_that_a_span_can_have() -> None:
    """Its own attributes, an error, events at its end, a link to another service, trace state."""
    span = sdk(
        USUAL._replace(
            task_id="",
            trace_state=TraceState([("a", "b")]),
            link=LinkedSpan(1, 2, "c=d"),
            attributes={"error.type": "NOT"},
            error="NOT FOUND",
            events=TaskEvents("moved", ["x", "y"]),
            internal=True,
        )
    )
    assert (span.kind, span.status.status_code, span.status.description) == (
        SpanKind.INTERNAL,
        StatusCode.ERROR,
        "NOT FOUND",
    )
    assert span.attributes == {"asynq.task.state": "archived", "error.type": "NOT"}
    assert [(event.name, event.timestamp, event.attributes) for event in span.events] == [
        ("moved", END, {"messaging.message.id": "x"}),
        ("moved", END, {"messaging.message.id": "y"}),
    ]
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id, link.context.is_remote) == (1, 2, True)
    assert link.context.trace_state.to_header() == "c=d"
    assert span.context is not None
    assert span.context.trace_state.to_header() == "a=b"
