"""Spans of what the sidecar decides and does, by the semantic conventions for database and messaging spans.

A span is built once, when it is over, so nothing is held open. The SDK's sampler is asked first: where it says no,
nothing is built at all. What is built is handed to the SDK's batch processor, which exports on a thread of its
own and drops what it cannot hold, so export never blocks the data path.

Never in a span: a payload, a credential, an argument.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import Activated, FailedOpen, Outcome, Swept
from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.telemetry.otlp import SCOPE, Encoder, Linked, Ready

# Task IDs that the span of a sweep or of a bulk operation names.
MAX_IDS = 20
# Longer task IDs and types are cut off.
MAX_TEXT = 1_024

# More than the SDK's 2,048: a burst of settled tasks is what a sidecar sees.
_QUEUE_SIZE = 16_384
_CONSOLE_DELAY_MS = 200.0
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_UNSET = Status(StatusCode.UNSET)
_MAX_BLOCKS = 10_000

# Not version ff, no ID of zeros only; version 00 ends after the flags, a later one may go on.
_TRACEPARENT = re.compile(
    r"(?!ff)(?!00-.*-.*-..-)[0-9a-f]{2}-(?P<trace>(?!0{32})[0-9a-f]{32})-(?P<span>(?!0{16})[0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
)

Attributes = dict[str, str | int]
LookUp = Callable[[Outcome, Callable[[Sequence[str]], None]], None]


class Spans:
    """Makes spans and hands them to the exporters.

    Args:
        exporters: where they go; without any, nothing is made.
        resource: what they are about.
        upstream: the real Redis, for the spans' attributes.
        task_ids: whether task IDs may be in spans.
        encoder: makes the bytes that all the exporters take; None where one of them wants spans of the SDK.
    """

    def __init__(
        self,
        exporters: Sequence[SpanExporter],
        resource: Resource,
        upstream: Upstream,
        *,
        task_ids: bool,
        encoder: Encoder | None = None,
    ) -> None:
        self.made = 0
        """Spans handed to the exporters."""
        self.exported: Counter[str] = Counter()
        """Spans that exporters were given, by result: ok, error."""
        self.on = bool(exporters)
        self.look_up: LookUp | None = None
        """Finds out which tasks a bulk operation has moved."""
        self._resource = resource
        self._task_ids = task_ids
        self._server = _server_attributes(upstream.address)
        self._encoder = encoder
        # What the spans of decisions have in common, by what decides about it.
        self._blocks: dict[tuple[object, ...], bytes] = {}
        if not exporters:
            return
        # The provider reads OTEL_TRACES_SAMPLER; spans are made here, since they are over when they begin.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._sampler = provider.sampler
        # These spans have no parent. So a share of them is by the trace ID alone, and what is not in it need not ask.
        root = getattr(self._sampler, "_root", self._sampler)
        self._bound: int = root.bound if type(root) is TraceIdRatioBased else TraceIdRatioBased.TRACE_ID_LIMIT + 1
        self._ids = provider.id_generator
        self._longest = min(SpanLimits().max_span_attribute_length or MAX_TEXT, MAX_TEXT)
        self._processors = [self._processor(exporter) for exporter in exporters]

    def moved(self, address: Address) -> None:
        """Name another server from now on."""
        self._server = _server_attributes(address)
        self._blocks.clear()  # the server is in each

    def settled(self, outcome: Outcome, mode: str) -> str:
        """Make the span of a decision. Returns its trace ID in hexadecimal digits; empty if it is not sampled."""
        decision = outcome.decision
        name = f"{decision.operation} {decision.queue}"
        context = self._sampled(name, SpanKind.CLIENT)
        if context is None:
            return ""
        moved = outcome.moved
        if not decision.task_id and moved and self._task_ids and self.look_up is not None:
            sampled = context
            self.look_up(outcome, lambda task_ids: self._settled(outcome, mode, sampled, task_ids))
        elif self._encoder is not None and outcome.reply.startswith(b"+") and not context.trace_state:
            self._emit(self._ready(self._encoder, name, outcome, mode, context))
        else:
            self._settled(outcome, mode, context, ())
        return f"{context.trace_id:032x}"

    def _ready(self, encoder: Encoder, name: str, outcome: Outcome, mode: str, context: "_Sampled") -> Ready:
        """Return the span of the usual decision, encoded: a task has moved, and nothing else is to be told."""
        decision = outcome.decision
        key = (*decision[1:4], id(decision.action), mode, *decision[7:10], outcome.database)
        block = self._blocks.get(key)
        if block is None:
            if len(self._blocks) >= _MAX_BLOCKS:
                self._blocks.clear()
            block = self._blocks[key] = encoder.block(self._attributes_of(outcome, mode))
        task_id = self._text(decision.task_id) if self._task_ids else ""
        link = _link(decision.traceparent, decision.tracestate) if decision.traceparent else None
        times = outcome.start_ns, outcome.end_ns
        return encoder.ready(printable(name), context[:2], times, block, task_id=task_id, link=link)

    def _attributes_of(self, outcome: Outcome, mode: str) -> Attributes:
        """Return the attributes of a decision that do not differ from task to task."""
        decision = outcome.decision
        attributes: Attributes = {
            **self._server,
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": decision.script,
            "db.namespace": str(outcome.database),
            "messaging.operation.type": "settle",
            "messaging.operation.name": decision.operation,
            "messaging.destination.name": self._text(decision.queue),
            "asynq.task.state": decision.state,
            "asynq_ttl.action": decision.action.value,
            "asynq_ttl.mode": mode,
        }
        if decision.task_type:
            attributes["asynq.task.type"] = self._text(decision.task_type)
        if decision.rule:
            attributes["asynq_ttl.rule"] = decision.rule
        if decision.ttl_seconds is not None:
            attributes["asynq_ttl.ttl_seconds"] = decision.ttl_seconds
        return attributes

    def _settled(self, outcome: Outcome, mode: str, context: "_Sampled", task_ids: Sequence[str]) -> None:
        decision = outcome.decision
        attributes = self._attributes_of(outcome, mode)
        if decision.task_id and self._task_ids:
            attributes["messaging.message.id"] = self._text(decision.task_id)
        moved = outcome.moved
        if moved is not None:
            attributes["asynq_ttl.tasks"] = moved
        events = [Event("moved", {"messaging.message.id": self._text(task_id)}, outcome.end_ns) for task_id in task_ids]
        link = _link(decision.traceparent, decision.tracestate) if decision.traceparent else None
        self._end(
            f"{decision.operation} {decision.queue}",
            context,
            attributes,
            (outcome.start_ns, outcome.end_ns),
            events=events,
            links=[_sdk_link(link)] if link is not None else (),
            status=_status_of(outcome.reply, attributes),
        )

    def swept(self, page: Swept) -> str:
        """Make the span of a page of a sweep. Returns its trace ID; empty if it is not sampled."""
        name = f"sweep {page.queue}"
        context = self._sampled(name, SpanKind.CLIENT)
        if context is None:
            return ""
        attributes: Attributes = {
            **self._server,
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": "asynq_ttl.sweep",
            "db.namespace": str(page.database),
            "messaging.operation.type": "settle",
            "messaging.operation.name": "sweep",
            "messaging.destination.name": self._text(page.queue),
            "asynq.task.state": page.state.value,
            "asynq_ttl.action": "delete" if page.due else "none",
            "asynq_ttl.mode": "enforce",
            "asynq_ttl.sweep.due": len(page.due),
            "asynq_ttl.sweep.ghosts": page.ghosts,
        }
        events = [
            Event("due", {"messaging.message.id": self._text(task_id)}, page.end_ns)
            for task_id in (page.due[:MAX_IDS] if self._task_ids else ())
        ]
        self._end(name, context, attributes, (page.start_ns, page.end_ns), events=events)
        return f"{context.trace_id:032x}"

    def failed_open(self, failure: FailedOpen) -> str:
        """Make the span of a fail-open. Returns its trace ID; empty if it is not sampled."""
        name = f"fail_open {failure.reason.value}"
        context = self._sampled(name, SpanKind.INTERNAL)
        if context is None:
            return ""
        attributes: Attributes = {**self._server, "asynq_ttl.fail_open.reason": failure.reason.value}
        if failure.kind:
            attributes["db.stored_procedure.name"] = f"asynq.{failure.kind}"
            attributes["asynq_ttl.script.sha"] = failure.sha
        if failure.queue:
            attributes["messaging.destination.name"] = self._text(failure.queue)
        if failure.task_id and self._task_ids:
            attributes["messaging.message.id"] = self._text(failure.task_id)
        attributes["error.type"] = failure.reason.value
        status = Status(StatusCode.ERROR, printable(failure.detail))
        times = failure.at_ns, failure.at_ns
        self._end(name, context, attributes, times, kind=SpanKind.INTERNAL, status=status)
        return f"{context.trace_id:032x}"

    def activated(self, activated: Activated) -> str:
        """Make the span of loading a wrapper. Returns its trace ID; empty if it is not sampled."""
        name = f"activate {activated.kind}"
        context = self._sampled(name, SpanKind.CLIENT)
        if context is None:
            return ""
        attributes: Attributes = {
            **self._server,
            "db.operation.name": "SCRIPT LOAD",
            "db.stored_procedure.name": f"asynq.{activated.kind}",
            "asynq_ttl.script.sha": activated.sha,
        }
        status = _failure("activation", activated.error, attributes)
        self._end(name, context, attributes, (activated.start_ns, activated.end_ns), status=status)
        return f"{context.trace_id:032x}"

    def reloaded(self, digest: str, mode: str, start_ns: int, end_ns: int, error: str) -> str:
        """Make the span of a reload of the policy. Returns its trace ID; empty if it is not sampled."""
        name = "reload policy"
        context = self._sampled(name, SpanKind.INTERNAL)
        if context is None:
            return ""
        attributes: Attributes = {"asynq_ttl.policy.digest": digest, "asynq_ttl.mode": mode}
        status = _failure("policy", error, attributes)
        self._end(name, context, attributes, (start_ns, end_ns), kind=SpanKind.INTERNAL, status=status)
        return f"{context.trace_id:032x}"

    def switched(self, before: str, start_ns: int, end_ns: int) -> str:
        """Make the span of a change of the master. Returns its trace ID; empty if it is not sampled."""
        name = "switch upstream"
        context = self._sampled(name, SpanKind.INTERNAL)
        if context is None:
            return ""
        attributes: Attributes = {**self._server, "asynq_ttl.upstream.previous": before}
        self._end(name, context, attributes, (start_ns, end_ns), kind=SpanKind.INTERNAL)
        return f"{context.trace_id:032x}"

    def shutdown(self, seconds: float) -> None:
        """Export what is left, within a bound: a collector that does not answer must not hold up the end."""
        if not self.on:
            return
        threads = [threading.Thread(target=processor.shutdown, daemon=True) for processor in self._processors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds / len(threads))

    def _sampled(self, name: str, kind: SpanKind) -> "_Sampled | None":
        """Ask the sampler; return what the span to build is called, or None where there is to be none."""
        if not self.on:
            return None
        trace_id = self._ids.generate_trace_id()
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return None
        result = self._sampler.should_sample(None, trace_id, name, kind)
        if result.decision is not Decision.RECORD_AND_SAMPLE:
            return None
        return _Sampled(trace_id, self._ids.generate_span_id(), result.trace_state)

    def _end(
        self,
        name: str,
        context: "_Sampled",
        attributes: Attributes,
        times: tuple[int, int],
        *,
        kind: SpanKind = SpanKind.CLIENT,
        links: Sequence[Link] = (),
        events: Sequence[Event] = (),
        status: Status = _UNSET,
    ) -> None:
        span = ReadableSpan(
            name=printable(name),
            context=SpanContext(*context[:2], is_remote=False, trace_flags=_SAMPLED, trace_state=context.trace_state),
            resource=self._resource,
            attributes=attributes,
            events=events,
            links=links,
            kind=kind,
            status=status,
            start_time=times[0],
            end_time=times[1],
            instrumentation_scope=SCOPE,
        )
        self._emit(span)

    def _emit(self, span: ReadableSpan | Ready) -> None:
        self.made += 1
        for processor in self._processors:
            processor.on_end(span)  # type: ignore[arg-type] # of a span, it looks only at the context

    def _processor(self, exporter: SpanExporter) -> BatchSpanProcessor:
        delay = _CONSOLE_DELAY_MS if isinstance(exporter, ConsoleSpanExporter) else None
        size = None if os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") else _QUEUE_SIZE
        return BatchSpanProcessor(_Counted(exporter, self.exported), size, delay)

    def _text(self, text: str) -> str:
        return printable(text[: self._longest])


class _Sampled(NamedTuple):
    """What a span to build is called."""

    trace_id: int
    span_id: int
    trace_state: TraceState | None


class _Counted(SpanExporter):
    """Counts what an exporter does."""

    def __init__(self, exporter: SpanExporter, results: Counter[str]) -> None:
        self._exporter = exporter
        self._results = results

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        self._results["ok" if result is SpanExportResult.SUCCESS else "error"] += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def _link(traceparent: str, tracestate: str) -> Linked | None:
    """Return where a producer's W3C trace context leads; None where it is not valid.

    The SDK's propagator does the same and more, in five times the time.
    """
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    state = TraceState.from_header([tracestate]).to_header() if tracestate else ""
    return Linked(int(found["trace"], 16), int(found["span"], 16), state)


def _sdk_link(link: Linked) -> Link:
    state = TraceState.from_header([link.trace_state])
    return Link(SpanContext(link.trace_id, link.span_id, is_remote=True, trace_state=state))


def _status_of(reply: bytes, attributes: Attributes) -> Status:
    """Return a span's status from the first line of the reply: an error reply's prefix says what kind it is."""
    if reply.startswith((b"-", b"!")):
        prefix = reply[1:].split(b" ", 1)[0].decode("ascii", "replace")
        attributes["db.response.status_code"] = prefix
        attributes["error.type"] = prefix
        return Status(StatusCode.ERROR, reply[1:].decode("utf-8", "replace"))
    if not reply:
        attributes["error.type"] = "no_reply"
        return Status(StatusCode.ERROR, "the connection ended, or its replies cannot be followed")
    return _UNSET


def _failure(kind: str, error: str, attributes: Attributes) -> Status:
    if not error:
        return _UNSET
    attributes["error.type"] = kind
    return Status(StatusCode.ERROR, printable(error))


def _server_attributes(address: Address) -> Mapping[str, str | int]:
    attributes: Attributes = {"db.system.name": "redis", "messaging.system": "asynq"}
    attributes["server.address"] = address.path or address.host
    if not address.path:
        attributes["server.port"] = address.port
    return attributes
