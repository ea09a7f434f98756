"""The sidecar's metrics: instruments of the OpenTelemetry API, pushed by OTLP and read by Prometheus.

Counters and gauges are plain numbers of the sidecar that are read when somebody collects, so counting costs the data
path an integer. Histograms are for the few things that are measured now and then.

Invariant: readers run on threads of their own, so what `read` looks at must be safe to look at from there.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import SpanIds

Number = int | float
# By the value of the label, or the values of several.
Labelled = Mapping[Any, Number]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric as it was declared.

    Attributes:
        kind: counter, gauge or histogram.
        unit: its unit in UCUM; empty for plain counts.
        labels: the names of its labels, in the order of the keys that are read.
    """

    kind: str
    unit: str
    labels: tuple[str, ...]


class Record(Protocol):
    """Takes the values of a distribution."""

    def __call__(self, value: float, label: str, span: SpanIds | None = None, /) -> None:
        """Take a value.

        Args:
            value: the value.
            label: the value of its label; of no meaning where it has none.
            span: one that tells of what was measured, for an exemplar; None for none.
        """


class Metrics:
    """The instruments of one sidecar.

    Args:
        readers: where metrics are pushed to.
        resource: what they are about.
        pulled: whether somebody may ask for them in Prometheus's format.
    """

    def __init__(self, readers: list[MetricReader], resource: Resource, *, pulled: bool) -> None:
        self.declared: dict[str, Instrument] = {}
        """All instruments by their names."""
        self._one_at_a_time = threading.Lock()
        self._pull: Callable[[str], tuple[bytes, str]] | None = None
        if pulled:
            reader, self._pull = _prometheus()
            readers = [*readers, reader]
        provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False) if readers else None
        self._provider = provider
        self._meter = provider.get_meter("asynq_ttl") if provider is not None else None

    def counter(
        self, name: str, description: str, read: Callable[[], Number | Labelled], labels: tuple[str, ...] = ()
    ) -> None:
        """Declare a number that only grows.

        Args:
            name: its name, such as `asynq_ttl.commands`.
            description: what it counts.
            read: returns the number, or with labels the numbers by the values of the labels.
            labels: the names of the labels.
        """
        self.declared[name] = Instrument("counter", "", labels)
        if self._meter is not None:
            self._meter.create_observable_counter(name, [_callback(read, labels)], description=description)

    def gauge(
        self,
        name: str,
        description: str,
        read: Callable[[], Number | Labelled],
        labels: tuple[str, ...] = (),
        *,
        unit: str = "",
    ) -> None:
        """Declare a number that goes up and down; the arguments are those of `counter`."""
        self.declared[name] = Instrument("gauge", unit, labels)
        if self._meter is not None:
            self._meter.create_observable_gauge(name, [_callback(read, labels)], unit=unit, description=description)

    def histogram(self, name: str, description: str, unit: str, bounds: tuple[float, ...], label: str = "") -> Record:
        """Declare a distribution, and return what takes its values.

        Args:
            name: its name.
            description: what is measured.
            unit: in what.
            bounds: the upper bounds of its buckets.
            label: the name of its label, if it has one.
        """
        self.declared[name] = Instrument("histogram", unit, (label,) if label else ())
        if self._meter is None:
            return lambda _value, _label, _span=None: None
        histogram = self._meter.create_histogram(
            name, unit=unit, description=description, explicit_bucket_boundaries_advisory=bounds
        )
        return lambda value, text, span=None: histogram.record(
            value, {label: text} if label else None, None if span is None else _context_of(span)
        )

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics in Prometheus's text format, and its content type. Takes milliseconds; blocks.

        Args:
            accept: the formats that are asked for, as in HTTP.
        """
        if self._pull is None:
            return b"", "text/plain"
        # The reader hands what it collects over in a queue, which two at a time would mix up.
        with self._one_at_a_time:
            return self._pull(accept)

    def shutdown(self, seconds: float) -> None:
        """Export once more, within a bound; the SDK's own bounds are its exporters' (10 s and more)."""
        if self._provider is not None:
            thread = threading.Thread(target=self._provider.shutdown, daemon=True)
            thread.start()
            thread.join(seconds)


def _prometheus() -> tuple[MetricReader, Callable[[str], tuple[bytes, str]]]:
    """Return a reader for Prometheus, and what returns all metrics in one of its formats, with the content type."""
    from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 - only where it is asked
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    from asynq_ttl.telemetry.exemplars import ExemplarReader, WithExemplars  # noqa: PLC0415

    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    reader = ExemplarReader(registry)
    metrics = WithExemplars(registry, reader)

    def pull(accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        return encode(metrics), content_type

    return reader, pull


def _context_of(span: SpanIds) -> Context:
    """Return the context by which the SDK knows which span a value belongs to."""
    flags = TraceFlags(TraceFlags.SAMPLED)
    return set_span_in_context(NonRecordingSpan(SpanContext(*span[:2], is_remote=False, trace_flags=flags)), Context())


def _callback(
    read: Callable[[], Number | Labelled], labels: tuple[str, ...]
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        value = read()
        if isinstance(value, int | float):
            return [Observation(value)]
        observations = []
        for key, number in list(value.items()):
            values = (key,) if isinstance(key, str) else key
            observations.append(Observation(number, dict(zip(labels, map(printable, values), strict=True))))
        return observations

    return observe
