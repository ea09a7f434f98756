"""Trace IDs beside the buckets of histograms, in OpenMetrics: Prometheus's exemplars.

The SDK picks them (`OTEL_METRICS_EXEMPLAR_FILTER`), and its reader for Prometheus drops them. So they are kept here as
it gets them, and added to what it makes of the rest.

Invariants:

* The latest exemplar of a bucket stays until there is another one: no scrape takes anything away from others.
* Bounded: one for each bucket of each histogram and label.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import Histogram, HistogramDataPoint, Metric, MetricsData
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

_Series = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a histogram, and its labels with their values."""


class ExemplarReader(PrometheusMetricReader):
    """The SDK's reader, which keeps exemplars besides.

    Args:
        registry: where it makes metrics known.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(scope_info_enabled=False, registry=registry)
        self._latest: dict[tuple[_Series, float], Exemplar] = {}

    def latest(self, family: Family, sample: Sample) -> Exemplar | None:
        """Return the latest exemplar of a sample, if that is a bucket; None where there is none."""
        if "le" not in sample.labels:
            return None
        name = family.name.removesuffix(f"_{family.unit}")
        return self._latest.get((_series(name, sample.labels), float(sample.labels["le"])))

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:  # noqa: ANN401 - the SDK's own
        for metric in _histograms(metrics_data):
            for point in metric.data.data_points:
                if isinstance(point, HistogramDataPoint):
                    self._keep(metric.name, point)
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def _keep(self, name: str, point: HistogramDataPoint) -> None:
        series, bounds = _series(name, point.attributes or {}), (*point.explicit_bounds, float("inf"))
        for found in point.exemplars:
            if found.trace_id and found.span_id:
                ids = {"trace_id": f"{found.trace_id:032x}", "span_id": f"{found.span_id:016x}"}
                bound = bounds[bisect_left(point.explicit_bounds, found.value)]
                self._latest[series, bound] = Exemplar(ids, found.value, found.time_unix_nano / 1e9)


class WithExemplars(Collector):
    """All metrics of a registry, with the exemplars of a reader.

    Args:
        registry: the metrics.
        reader: the reader.
    """

    def __init__(self, registry: CollectorRegistry, reader: ExemplarReader) -> None:
        self._registry = registry
        self._reader = reader

    def collect(self) -> Iterable[Family]:
        """Yield the metrics."""
        for family in self._registry.collect():
            if family.type == "histogram":
                latest = self._reader.latest
                family.samples[:] = [sample._replace(exemplar=latest(family, sample)) for sample in family.samples]
            yield family


def _histograms(data: MetricsData) -> Iterator[Metric]:
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            yield from (metric for metric in scope.metrics if isinstance(metric.data, Histogram))


def _series(name: str, labels: Any) -> _Series:  # noqa: ANN401 - a mapping, whoever's
    """Return how a histogram with some labels is found, by the names of either side."""
    pairs = sorted((key.replace(".", "_"), str(value)) for key, value in labels.items() if key != "le")
    return name.replace(".", "_"), tuple(pairs)
