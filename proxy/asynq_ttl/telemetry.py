"""Traces, metrics and warnings of what the sidecar does. Only importer of opentelemetry.

Configured by the standard `OTEL_*` environment variables alone. The SDK leaves some of them to the distribution
that starts it, so these are read here: `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` (`otlp`, `console`,
`none`, or several with commas; without them `otlp` if an OTLP endpoint is set, else none) and
`OTEL_EXPORTER_OTLP_PROTOCOL` (`http/protobuf`, `grpc`; also per signal).

Spans follow the semantic conventions for database and messaging spans. A span is built once, when its reply has come,
so nothing is held open; times are those of the command and its reply. Never in a span: a payload, a credential,
an argument.
"""

import logging
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asynq_ttl.address import Upstream
from asynq_ttl.decision import FailOpen
from asynq_ttl.scripts import Script
from asynq_ttl.session import Outcome
from asynq_ttl.sweeper import Swept

_log = logging.getLogger("asynq_ttl")

# Label values beyond these many sets are counted together, so that no queue or rule name can grow the metrics.
MAX_DECISION_SERIES = 1_000
OVERFLOW = "other"
# Task IDs that the span of a sweep names.
MAX_SWEPT_IDS = 20

_WARNING_INTERVAL_SECONDS = 10.0
_FLUSH_SECONDS = 3.0

DecisionKey = tuple[str, str, str, str, str]


class TelemetryError(ValueError):
    """An `OTEL_*` variable that cannot be followed; the message names it."""


class Telemetry:
    """Counts decisions and makes spans of them. The `Observer` of all sessions.

    Args:
        upstream: the real Redis, for the spans' attributes.
        environment: where the `OTEL_*` variables are.

    Raises:
        TelemetryError: a variable names an exporter or protocol that does not exist.
    """

    def __init__(self, upstream: Upstream, environment: Mapping[str, str] = os.environ) -> None:
        self.decisions: Counter[DecisionKey] = Counter()
        """Decisions by queue, state, rule, action and mode."""
        self.fail_opens: Counter[str] = Counter()
        """Commands forwarded untouched although a rule might concern them, by reason."""
        self.unwrappable = 0
        """Scripts that Redis refused to compile."""
        self.reloads: Counter[str] = Counter()
        """Policy reloads by result: ok, error."""
        self.sweeps_due: Counter[str] = Counter()
        """Tasks the sweeper removed because their time was over, by queue."""
        self.sweeps_ghosts: Counter[str] = Counter()
        """Index entries the sweeper dropped because they named no task, by queue."""
        self.sweep_rounds: Counter[str] = Counter()
        """Rounds of the sweeper by result: ok, error."""
        self.sweep_seconds = 0.0
        """How long the sweeper's rounds took altogether, waiting for Redis included."""
        disabled = environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in attributes
        resource = Resource.create({} if named else {"service.name": "asynq-ttl"})
        exporters = [] if disabled else _span_exporters(environment)
        self._traces = TracerProvider(resource=resource) if exporters else None
        self._tracer: trace.Tracer | None = None
        if self._traces is not None:
            for exporter in exporters:
                simple = isinstance(exporter, ConsoleSpanExporter)
                self._traces.add_span_processor(
                    SimpleSpanProcessor(exporter) if simple else BatchSpanProcessor(exporter)
                )
            self._tracer = self._traces.get_tracer("asynq_ttl")
        readers = [] if disabled else _metric_readers(environment)
        self._metrics = MeterProvider(metric_readers=readers, resource=resource) if readers else None
        self._propagator = TraceContextTextMapPropagator()
        self._server = _server_attributes(upstream)
        self._warned: dict[str, float] = {}

    def settled(self, outcome: Outcome) -> None:
        """Count a decision and make its span."""
        decision = outcome.decision
        mode = "enforce" if decision.enforced else "shadow"
        key = (decision.queue, decision.state, decision.rule, decision.action.value, mode)
        if key not in self.decisions and len(self.decisions) >= MAX_DECISION_SERIES:
            key = (OVERFLOW, decision.state, OVERFLOW, decision.action.value, mode)
        self.decisions[key] += 1
        if self._tracer is not None:
            self._span(self._tracer, outcome, mode)

    def failed_open(self, reason: FailOpen, script: Script | None, detail: str) -> None:
        """Count a command that was forwarded untouched, and warn (at times)."""
        self.fail_opens[reason.value] += 1
        what = f"{script.kind.value} script {script.sha.decode()[:8]}" if script is not None else "a command"
        self._warn(reason.value, f"failed open ({reason.value}): {what} was forwarded untouched: {detail}")

    def unwrapped(self, script: Script, detail: str) -> None:
        """Count a script that Redis refused to compile, and warn."""
        self.unwrappable += 1
        self._warn(
            "compile", f"script {script.sha.decode()} ({script.kind.value}) stays unwrapped, no TTL is set: {detail}"
        )

    def swept(self, page: Swept) -> None:
        """Count what a page of a sweep removed and make its span."""
        queue = page.queue if page.queue in self.sweeps_due or len(self.sweeps_due) < MAX_DECISION_SERIES else OVERFLOW
        self.sweeps_due[queue] += len(page.due)
        self.sweeps_ghosts[queue] += page.ghosts
        if self._tracer is None:
            return
        span = self._tracer.start_span(
            f"sweep {page.queue}",
            kind=SpanKind.CLIENT,
            attributes={
                **self._server,
                "db.operation.name": "EVALSHA",
                "db.stored_procedure.name": "asynq_ttl.sweep",
                "db.namespace": str(page.database),
                "messaging.operation.type": "settle",
                "messaging.operation.name": "sweep",
                "messaging.destination.name": page.queue,
                "asynq.task.state": page.state.value,
                "asynq_ttl.action": "delete" if page.due else "none",
                "asynq_ttl.mode": "enforce",
                "asynq_ttl.sweep.due": len(page.due),
                "asynq_ttl.sweep.ghosts": page.ghosts,
            },
            start_time=page.start_ns,
        )
        for task_id in page.due[:MAX_SWEPT_IDS]:
            span.add_event("due", {"messaging.message.id": task_id}, page.end_ns)
        span.end(page.end_ns)

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:  # noqa: ARG002 - the log has it
        """Count active IDs without a task that the sweeper dropped."""
        queue = queue if queue in self.sweeps_due or len(self.sweeps_due) < MAX_DECISION_SERIES else OVERFLOW
        self.sweeps_ghosts[queue] += dropped

    def sweep_ended(self, seconds: float, error: str) -> None:
        """Count a round of the sweeper."""
        self.sweep_rounds["error" if error else "ok"] += 1
        self.sweep_seconds += seconds

    def observe(self, name: str, description: str, read: Callable[[], int]) -> None:
        """Export an integer of the sidecar as a monotonic counter."""
        self._counter(name, description, lambda: [Observation(read())])

    def start_metrics(self) -> None:
        """Register the counters kept here."""
        labels = ("asynq.queue", "asynq.task.state", "asynq_ttl.rule", "asynq_ttl.action", "asynq_ttl.mode")
        self._counter(
            "asynq_ttl.decisions",
            "Decisions about tasks.",
            lambda: [
                Observation(count, dict(zip(labels, key, strict=True))) for key, count in list(self.decisions.items())
            ],
        )
        self._counter(
            "asynq_ttl.fail_open",
            "Commands forwarded untouched although a rule might concern them.",
            _by_label(self.fail_opens, "reason"),
        )
        self._counter(
            "asynq_ttl.policy.reloads",
            "Policy reloads by result.",
            _by_label(self.reloads, "result"),
        )
        for name, description, counts in (
            ("asynq_ttl.sweep.due", "Tasks removed by the sweeper because their time was over.", self.sweeps_due),
            ("asynq_ttl.sweep.ghosts", "Index entries dropped because they named no task.", self.sweeps_ghosts),
        ):
            self._counter(name, description, _by_label(counts, "asynq.queue"))
        self._counter("asynq_ttl.sweep.rounds", "Rounds of the sweeper.", _by_label(self.sweep_rounds, "result"))
        self._counter(
            "asynq_ttl.sweep.seconds",
            "How long the sweeper's rounds took, waiting for Redis included.",
            lambda: [Observation(self.sweep_seconds)],
        )
        self.observe("asynq_ttl.scripts.unwrappable", "Scripts Redis refused to compile.", lambda: self.unwrappable)

    def shutdown(self) -> None:
        """Export what is left, within a bound: a collector that does not answer must not hold up the end."""
        for provider in (self._traces, self._metrics):
            if provider is not None:
                # The SDK's own bounds are its exporters' (10 s and more).
                thread = threading.Thread(target=provider.shutdown, daemon=True)
                thread.start()
                thread.join(_FLUSH_SECONDS)

    def _counter(self, name: str, description: str, read: Callable[[], Iterable[Observation]]) -> None:
        if self._metrics is None:
            return

        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            return read()

        meter = self._metrics.get_meter("asynq_ttl")
        meter.create_observable_counter(name, [callback], description=description)

    def _span(self, tracer: trace.Tracer, outcome: Outcome, mode: str) -> None:
        decision = outcome.decision
        attributes: dict[str, str | int] = {
            **self._server,
            "db.operation.name": "EVALSHA",
            "db.stored_procedure.name": decision.script,
            "db.namespace": str(outcome.database),
            "messaging.operation.type": "settle",
            "messaging.operation.name": decision.operation,
            "messaging.destination.name": decision.queue,
            "asynq.task.state": decision.state,
            "asynq_ttl.action": decision.action.value,
            "asynq_ttl.mode": mode,
        }
        optional = {
            "messaging.message.id": decision.task_id,
            "asynq.task.type": decision.task_type,
            "asynq_ttl.rule": decision.rule,
            "asynq_ttl.ttl_seconds": decision.ttl_seconds,
        }
        attributes.update({name: value for name, value in optional.items() if value is not None and value != ""})
        span = tracer.start_span(
            f"{decision.operation} {decision.queue}",
            kind=SpanKind.CLIENT,
            attributes=attributes,
            links=self._links(decision.traceparent, decision.tracestate),
            start_time=outcome.start_ns,
        )
        _set_status(span, outcome.reply)
        span.end(outcome.end_ns)

    def _links(self, traceparent: str, tracestate: str) -> list[Link]:
        if not traceparent:
            return []
        carrier = {"traceparent": traceparent, "tracestate": tracestate}
        context = trace.get_current_span(self._propagator.extract(carrier)).get_span_context()
        return [Link(context)] if context.is_valid else []

    def _warn(self, key: str, message: str) -> None:
        """Log a warning, each kind at most every few seconds; the counters count them all."""
        now = time.monotonic()
        if now - self._warned.get(key, -_WARNING_INTERVAL_SECONDS) >= _WARNING_INTERVAL_SECONDS:
            self._warned[key] = now
            _log.warning("%s", message)


def _by_label(counts: Counter[str], label: str) -> Callable[[], Iterable[Observation]]:
    """Return how to observe counters that are told apart by one label."""
    return lambda: [Observation(count, {label: value}) for value, count in list(counts.items())]


def _set_status(span: Span, reply: bytes) -> None:
    """Set a span's status from the first line of the reply: an error reply's prefix says what kind it is."""
    if reply.startswith((b"-", b"!")):
        prefix = reply[1:].split(b" ", 1)[0].decode("ascii", "replace")
        span.set_attribute("db.response.status_code", prefix)
        span.set_attribute("error.type", prefix)
        span.set_status(Status(StatusCode.ERROR, reply[1:].decode("utf-8", "replace")))
    elif not reply:
        span.set_attribute("error.type", "no_reply")
        span.set_status(Status(StatusCode.ERROR, "the connection ended, or its replies cannot be followed"))


def _server_attributes(upstream: Upstream) -> dict[str, str | int]:
    attributes: dict[str, str | int] = {"db.system.name": "redis", "messaging.system": "asynq"}
    address = upstream.address
    attributes["server.address"] = address.path or address.host
    if not address.path:
        attributes["server.port"] = address.port
    return attributes


def _span_exporters(environment: Mapping[str, str]) -> list[SpanExporter]:
    exporters: list[SpanExporter] = []
    for name in _exporter_names(environment, "TRACES"):
        if name == "console":
            exporters.append(ConsoleSpanExporter(out=sys.stdout))
        elif _protocol(environment, "TRACES") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415 - heavy

            exporters.append(grpc.OTLPSpanExporter())
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415 - heavy

            exporters.append(http.OTLPSpanExporter())
    return exporters


def _metric_readers(environment: Mapping[str, str]) -> list[MetricReader]:
    readers: list[MetricReader] = []
    for name in _exporter_names(environment, "METRICS"):
        if name == "console":
            readers.append(PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stdout)))
        elif _protocol(environment, "METRICS") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import metric_exporter as grpc  # noqa: PLC0415 - heavy

            readers.append(PeriodicExportingMetricReader(grpc.OTLPMetricExporter()))
        else:
            from opentelemetry.exporter.otlp.proto.http import metric_exporter as http  # noqa: PLC0415 - heavy

            readers.append(PeriodicExportingMetricReader(http.OTLPMetricExporter()))
    return readers


def _exporter_names(environment: Mapping[str, str], signal: str) -> list[str]:
    variable = f"OTEL_{signal}_EXPORTER"
    text = environment.get(variable, "").strip()
    if not text:
        endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        return ["otlp"] if any(environment.get(name) for name in endpoints) else []
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ("otlp", "console", "none"):
            raise TelemetryError(f"{variable}={text}: there is no exporter {name!r}; expected otlp, console or none")
    return [name for name in dict.fromkeys(names) if name != "none"]


def _protocol(environment: Mapping[str, str], signal: str) -> str:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        value = environment.get(variable, "").strip().lower()
        if value in ("grpc", "http/protobuf"):
            return value
        if value:
            raise TelemetryError(f"{variable}={value}: expected grpc or http/protobuf")
    return "http/protobuf"
