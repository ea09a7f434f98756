"""Metrics are read when somebody collects them."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import CollectorRegistry

from asynq_ttl.telemetry.exporters import resource_of
from asynq_ttl.telemetry.metrics import Instrument, Metrics

RESOURCE = resource_of({})


def declared(metrics: Metrics, counts: Counter[str]) -> None:
    """Declare one metric of each kind."""
    metrics.counter("asynq_ttl.things", "Things.", lambda: counts, ("kind",))
    metrics.counter("asynq_ttl.total", "All things.", counts.total)
    metrics.gauge("asynq_ttl.pairs", "Pairs.", lambda: {("a", "b"): 2.5}, ("first", "second"), unit="s")
    record = metrics.histogram("asynq_ttl.time", "Time.", "us", (10.0, 100.0), "direction")
    record(50.0, "reply")
    metrics.histogram("asynq_ttl.lag", "Lag.", "us", (10.0,))(5.0, "")


def test_prometheus_reads_the_instruments() -> None:
    """Names, units, labels and values as Prometheus has them, always the present ones."""
    metrics = Metrics([], RESOURCE, pulled=True)
    counts = Counter({"x": 1})
    declared(metrics, counts)
    counts["x"] += 1
    body, content_type = metrics.text("")
    lines = body.decode().splitlines()
    assert content_type.startswith("text/plain")
    assert 'asynq_ttl_things_total{kind="x"} 2.0' in lines
    assert "asynq_ttl_total 2.0" in lines or "asynq_ttl_total_total 2.0" in lines
    assert 'asynq_ttl_pairs_seconds{first="a",second="b"} 2.5' in lines
    assert 'asynq_ttl_time_microseconds_bucket{direction="reply",le="100.0"} 1.0' in lines
    assert "asynq_ttl_lag_microseconds_count 1.0" in lines
    assert any(line.startswith("process_cpu_seconds_total ") for line in lines)
    assert 'service_name="asynq-ttl"' in body.decode()
    assert b"# EOF" in metrics.text("application/openmetrics-text")[0]
    metrics.shutdown(1)


def test_the_same_instruments_are_pushed() -> None:
    """What is pulled is pushed too."""
    reader = InMemoryMetricReader()
    metrics = Metrics([reader], RESOURCE, pulled=True)
    declared(metrics, Counter(x=1))
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    assert names == set(metrics.declared)
    metrics.shutdown(1)


def test_without_a_reader_nothing_is_measured() -> None:
    """The instruments are known all the same."""
    metrics = Metrics([], RESOURCE, pulled=False)
    declared(metrics, Counter())
    assert metrics.declared["asynq_ttl.time"] == Instrument("histogram", "us", ("direction",))
    assert metrics.text("") == (b"", "text/plain")
    metrics.shutdown(1)


def test_a_label_that_is_no_text_does_not_stop_the_rest() -> None:
    """A queue's name of bytes that are not UTF-8 is told with replacements."""
    metrics = Metrics([], RESOURCE, pulled=True)
    metrics.counter("asynq_ttl.things", "Things.", lambda: {"\udcff": 1}, ("kind",))
    assert 'asynq_ttl_things_total{kind="�"} 1.0' in metrics.text("")[0].decode()
    metrics.shutdown(1)


def test_those_who_read_at_the_same_time_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader hands over what it has collected in a queue: two at a time would get too much and nothing."""
    reading: list[int] = []

    def encode(_registry: CollectorRegistry) -> bytes:
        reading.append(1)
        time.sleep(0.02)
        return b"alone" if len(reading) == reading.pop() else b"together"

    monkeypatch.setattr("prometheus_client.exposition.choose_encoder", lambda _: (encode, "text/plain"))
    metrics = Metrics([], RESOURCE, pulled=True)
    with ThreadPoolExecutor(4) as pool:
        texts = [body for body, _ in pool.map(lambda _: metrics.text(""), range(8))]
    assert texts == [b"alone"] * 8
    metrics.shutdown(1)
