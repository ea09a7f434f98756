"""Which buckets name a trace, as Prometheus's own parser reads them."""

import time
from typing import Any

from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from asynq_ttl.telemetry.exporters import resource_of
from asynq_ttl.telemetry.metrics import Metrics

IDS = (0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, None)
NAMED = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def _families(text: str) -> Any:
    return text_string_to_metric_families(text)  # type: ignore[no-untyped-call] # the parser has no types


def exemplars(metrics: Metrics) -> dict[tuple[str, str], Exemplar]:
    """Return the exemplars of the histogram `asynq_ttl.time`, by direction and upper bound."""
    body, content_type = metrics.text(OPEN_METRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in _families(body.decode())}
    samples = families["asynq_ttl_time_seconds"].samples
    return {
        (sample.labels["direction"], sample.labels["le"]): sample.exemplar
        for sample in samples
        if sample.exemplar is not None
    }


def test_a_bucket_names_its_latest_trace() -> None:
    """Each bucket its own, until there is another one; what belongs to no span leaves it as it is."""
    metrics = Metrics([], resource_of({}), pulled=True)
    record = metrics.histogram("asynq_ttl.time", "Time.", "s", (0.1, 1.0), "direction")
    started = time.time()
    record(0.5, "reply", (1, 2, None))
    record(0.6, "reply", IDS)
    record(5.0, "reply", IDS)
    record(0.05, "reply")
    record(0.7, "command")
    for _ in range(2):
        found = exemplars(metrics)
        assert {place: (each.labels, each.value) for place, each in found.items()} == {
            ("reply", "1.0"): (NAMED, 0.6),
            ("reply", "+Inf"): (NAMED, 5.0),
        }
        assert all(started - 1 <= float(each.timestamp or 0) <= time.time() for each in found.values())
    record(0.7, "reply", (IDS[0], 2, None))
    assert exemplars(metrics)["reply", "1.0"].labels["span_id"] == "0000000000000002"
    assert "trace_id" not in metrics.text("")[0].decode()
    metrics.shutdown(1)


def test_they_are_pushed_too() -> None:
    """The SDK's own readers have them."""
    reader = InMemoryMetricReader()
    metrics = Metrics([reader], resource_of({}), pulled=True)
    metrics.histogram("asynq_ttl.time", "Time.", "s", (0.1, 1.0), "direction")(0.5, "reply", IDS)
    data: Any = reader.get_metrics_data()
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert [(each.trace_id, each.span_id) for each in point.exemplars] == [IDS[:2]]
    metrics.shutdown(1)
