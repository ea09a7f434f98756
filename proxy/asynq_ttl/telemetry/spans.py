"""Spans of what the sidecar decides and does.

A span is built once, when it is over, so nothing is held open. The SDK's sampler is asked first: where it says no,
nothing is built at all. What is built is handed to the SDK's batch processor, which exports on a thread of its
own and drops what it cannot hold, so export never blocks the data path.

There is one description of a span, `FinishedSpan`, whatever it is about; each exporter's outlet says what is made of it
for that exporter. What the attributes are is the business of `span_attributes`.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from itertools import repeat
from struct import Struct

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, TraceState

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import Activated, Adopted, FailedOpen, Outcome, Swept
from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.telemetry.environment import SPAN_QUEUE_SIZE
from asynq_ttl.telemetry.exporters import Outlet
from asynq_ttl.telemetry.finished_span import MAX_IDS, FinishedSpan, SharedAttributes, TaskEvents
from asynq_ttl.telemetry.span_attributes import MAX_TEXT, NewAttributes, SpanAttributes, link_of, reply_attributes

_CONSOLE_DELAY_MS = 200.0
# Sets of attributes that are remembered; past it all are forgotten. (Task types and queue names come from clients.)
_MAX_SHARED = 10_000
_NOTHING_SHARED = SharedAttributes({}, b"")
_CLIENT, _INTERNAL = SpanKind.CLIENT, SpanKind.INTERNAL

_Ids = tuple[int, int, TraceState | None]
"""A sampled span's trace ID, its own ID, and the trace state."""

DrawnIds = tuple[int, int, int]
"""The lower half of a trace's ID, the upper half, and the ID of its span; 64 bits each."""
_DRAWN, _NOT_DRAWN = Struct("3Q"), (0, 0, 0)


class Spans:
    """Makes spans and hands them to the exporters.

    Args:
        outlets: where they go, and in what form; without any, nothing is made.
        resource: what they are about.
        upstream: the real Redis, for the spans' attributes.
        task_ids: whether task IDs may be in spans.
    """

    def __init__(
        self,
        outlets: Sequence[Outlet],
        resource: Resource,
        upstream: Upstream,
        *,
        task_ids: bool,
    ) -> None:
        self.made = 0
        """Spans handed to the exporters."""
        self.latest: _Ids | None = None
        """The latest span of a decision."""
        self.exported: Counter[str] = Counter()
        """Spans that exporters were given, by result: ok, error."""
        self.on = bool(outlets)
        self.bound, self._asks = 0, False
        """A trace may be sampled if the lower half of its ID is below this; and whether the sampler is asked then."""
        self._task_ids = task_ids
        longest = min(SpanLimits().max_span_attribute_length or MAX_TEXT, MAX_TEXT)
        self._attributes = SpanAttributes(upstream.address, longest)
        # The names of spans of decisions, and the attributes they have in common, by all that these are made of.
        self._shared: dict[Hashable, tuple[str, SharedAttributes]] = {}
        if not outlets:
            return
        from asynq_ttl.telemetry.otlp import share  # noqa: PLC0415 - with protobuf, which is three megabytes

        self._share = share
        # The provider reads OTEL_TRACES_SAMPLER; spans are made here, since they are over when they begin.
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._sampler = provider.sampler
        self.bound, self._asks = _share_of(self._sampler)
        self._ids = provider.id_generator
        self._processors = [(outlet.form, self._processor(outlet.exporter)) for outlet in outlets]

    def name_server(self, address: Address) -> None:
        """Name another server from now on."""
        self._attributes.name_server(address)
        self._shared.clear()  # the server is in each

    def draw(self, number: int) -> Iterable[DrawnIds]:
        """Return the IDs of so many traces, drawn in one go; zeros where none can be sampled."""
        if not self.bound:
            return repeat(_NOT_DRAWN, number)
        return _DRAWN.iter_unpack(random.randbytes(number * _DRAWN.size))  # noqa: S311 - as the SDK draws them

    def decided(
        self,
        outcome: Outcome,
        mode: str,
        moved: Sequence[str] = (),
        server: Address | None = None,
        drawn: DrawnIds | None = None,
        *,
        kind: Hashable = None,
    ) -> str:
        """Make the span of a decision.

        Args:
            outcome: the decision and its reply.
            mode: enforce or shadow.
            moved: some of the tasks that a bulk operation has moved.
            server: where it was executed, in a cluster.
            drawn: the IDs that were drawn for it; None where that was not done yet.
            kind: what stands for all that the span says of it but its task and trace; None for nothing.

        Returns:
            Its trace ID in hexadecimal digits; empty if it is not sampled.
        """
        decision, database, start_ns, end_ns, reply, _ = outcome
        ids = self._sampled(_name_of(outcome) if self._asks else "", _CLIENT, drawn)
        if ids is None:
            return ""
        self.latest = ids
        key = (kind or (*decision[:5], *decision[7:10]), mode, database, server)
        name, shared = self._shared.get(key) or self._share_by(key, outcome, mode, server)
        # The usual reply says no more than that it went well.
        attributes, error = (None, None) if reply.startswith(b"+") else reply_attributes(outcome)
        task_id = self._attributes.text(decision.task_id) if self._task_ids else ""
        link = link_of(decision.traceparent, decision.tracestate) if decision.traceparent else None
        events = self._events("moved", moved) if moved and self._task_ids else None
        told = name, *ids, start_ns, end_ns, shared, task_id, link, attributes, error, events, False
        self._emit(FinishedSpan._make(told))
        return ids[0].to_bytes(16, "big").hex()

    def _share_by(
        self, key: Hashable, outcome: Outcome, mode: str, server: Address | None
    ) -> tuple[str, SharedAttributes]:
        """Remember the name of a decision's span, and the attributes that it has in common with others."""
        if len(self._shared) >= _MAX_SHARED:
            self._shared.clear()
        attributes = self._share(self._attributes.of_decision(outcome, mode, server))
        named = self._shared[key] = printable(_name_of(outcome)), attributes
        return named

    def swept(self, page: Swept, server: Address | None = None) -> str:
        """Make the span of a page of a sweep. Returns its trace ID; empty if it is not sampled."""
        name = f"sweep {page.queue}"
        ids = self._sampled(name, _CLIENT)
        if ids is None:
            return ""
        events = self._events("due", page.due[:MAX_IDS]) if self._task_ids else None
        times = page.start_ns, page.end_ns
        return self._finish(name, ids, times, self._attributes.of_page(page, server), events=events)

    def adopted(self, tasks: Adopted, server: Address | None = None) -> str:
        """Make the span of tasks that were adopted. Returns its trace ID; empty if it is not sampled."""
        name = f"adopt {tasks.queue}"
        ids = self._sampled(name, _CLIENT)
        if ids is None:
            return ""
        events = self._events("adopted", tasks.ids[:MAX_IDS]) if self._task_ids else None
        times = tasks.start_ns, tasks.end_ns
        return self._finish(name, ids, times, self._attributes.of_adoption(tasks, server), events=events)

    def failed_open(self, failure: FailedOpen, server: Address | None = None) -> str:
        """Make the span of a fail-open. Returns its trace ID; empty if it is not sampled."""
        name = f"fail_open {failure.reason.value}"
        ids = self._sampled(name, _INTERNAL)
        if ids is None:
            return ""
        task_id = self._attributes.text(failure.task_id) if self._task_ids else ""
        times = failure.at_ns, failure.at_ns
        attributes, error = self._attributes.of_fail_open(failure, server), printable(failure.detail)
        return self._finish(name, ids, times, attributes, task_id=task_id, error=error, internal=True)

    def activated(self, activated: Activated, server: Address | None = None) -> str:
        """Make the span of loading a wrapper. Returns its trace ID; empty if it is not sampled."""
        name = f"activate {activated.kind}"
        ids = self._sampled(name, _CLIENT)
        if ids is None:
            return ""
        attributes, error = self._attributes.of_activation(activated, server), printable(activated.error) or None
        return self._finish(name, ids, (activated.start_ns, activated.end_ns), attributes, error=error)

    def reloaded(self, digest: str, mode: str, start_ns: int, end_ns: int, error: str) -> str:
        """Make the span of a reload of the policy. Returns its trace ID; empty if it is not sampled."""
        name = "reload policy"
        ids = self._sampled(name, _INTERNAL)
        if ids is None:
            return ""
        attributes = self._attributes.of_reload(digest, mode, error)
        return self._finish(name, ids, (start_ns, end_ns), attributes, error=printable(error) or None, internal=True)

    def switched(self, before: str, start_ns: int, end_ns: int) -> str:
        """Make the span of a change of the master. Returns its trace ID; empty if it is not sampled."""
        name = "switch upstream"
        ids = self._sampled(name, _INTERNAL)
        if ids is None:
            return ""
        return self._finish(name, ids, (start_ns, end_ns), self._attributes.of_switch(before), internal=True)

    def shutdown(self, seconds: float) -> None:
        """Export what is left, within a bound: a collector that does not answer must not hold up the end."""
        if not self.on:
            return
        threads = [threading.Thread(target=processor.shutdown, daemon=True) for _, processor in self._processors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds / len(threads))

    def _sampled(self, name: str, kind: SpanKind, drawn: DrawnIds | None = None) -> _Ids | None:
        """Ask the sampler, where it is not plain what it says; return the IDs of the span to build, None for none."""
        if not self.on:
            return None
        if drawn is None:
            trace_id = self._ids.generate_trace_id()
            low, span_id = trace_id & TraceIdRatioBased.TRACE_ID_LIMIT, self._ids.generate_span_id()
        else:
            low, high, span_id = drawn
            trace_id = high << 64 | low
        if low >= self.bound:
            return None
        if not self._asks:
            return trace_id, span_id, None
        result = self._sampler.should_sample(None, trace_id, name, kind)
        return (trace_id, span_id, result.trace_state) if result.decision is Decision.RECORD_AND_SAMPLE else None

    def _finish(
        self,
        name: str,
        ids: _Ids,
        times: tuple[int, int],
        attributes: NewAttributes,
        *,
        task_id: str = "",
        error: str | None = None,
        events: TaskEvents | None = None,
        internal: bool = False,
    ) -> str:
        """Make a span that has nothing in common with others; return its trace ID."""
        shared, link = _NOTHING_SHARED, None
        told = printable(name), *ids, *times, shared, task_id, link, attributes, error, events, internal
        self._emit(FinishedSpan(*told))
        return f"{ids[0]:032x}"

    def _emit(self, span: FinishedSpan) -> None:
        self.made += 1
        for form, processor in self._processors:
            processor.on_end(form(span))  # type: ignore[arg-type] # of a span, it looks only at the context

    def _events(self, name: str, task_ids: Sequence[str]) -> TaskEvents:
        return TaskEvents(name, [self._attributes.text(task_id) for task_id in task_ids])

    def _processor(self, exporter: SpanExporter) -> BatchSpanProcessor:
        delay = _CONSOLE_DELAY_MS if isinstance(exporter, ConsoleSpanExporter) else None
        size = None if os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE") else SPAN_QUEUE_SIZE
        return BatchSpanProcessor(_Counted(exporter, self.exported), size, delay)


def _name_of(outcome: Outcome) -> str:
    decision = outcome.decision
    return f"{decision.operation} {decision.queue or decision.state}"


def _share_of(sampler: Sampler) -> tuple[int, bool]:
    """Return below which lower half of its ID a trace may be sampled, and whether the sampler has to be asked besides.

    The spans have no parent. So a share of them is by the trace ID alone.
    """
    all_of_them = TraceIdRatioBased.TRACE_ID_LIMIT + 1
    root = getattr(sampler, "_root", None) if type(sampler).should_sample is ParentBased.should_sample else sampler
    if type(root) is TraceIdRatioBased:
        return root.bound, False
    return (0, False) if root is ALWAYS_OFF else (all_of_them, root is not ALWAYS_ON)


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
