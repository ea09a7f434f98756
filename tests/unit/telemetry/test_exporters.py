"""What the `OTEL_*` variables mean."""

from types import ModuleType
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http import trace_exporter as http
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asynq_ttl.telemetry.exporters import Outlet, disabled, metric_readers, resource_of, span_outlets
from asynq_ttl.telemetry.finished_span import FinishedSpan, SharedAttributes, as_sdk_span
from asynq_ttl.telemetry.otlp import Ready
from support.otlp import grpc_receiver, http_receiver
from support.recorded import END, START

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
SPAN = FinishedSpan("archive mail", 7, 8, None, START, END, SharedAttributes({}, b""), "id-1")
CASES = {
    "nothing": ({}, []),
    "an endpoint": (ENDPOINT, [HttpSpanExporter]),
    "an endpoint for traces": ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:1/x"}, [HttpSpanExporter]),
    "an endpoint for metrics": ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:1/x"}, []),
    "gRPC": (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, [GrpcSpanExporter]),
    "several": ({"OTEL_TRACES_EXPORTER": "console, otlp,console"}, [ConsoleSpanExporter, HttpSpanExporter]),
    "none": (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, []),
    "disabled": (ENDPOINT | {"OTEL_SDK_DISABLED": " True"}, []),
}


def _export(outlet: Outlet, span: Any) -> SpanExportResult:
    return outlet.exporter.export([span])


@pytest.mark.parametrize(("variables", "expected"), CASES.values(), ids=CASES)
def test_where_spans_go(variables: dict[str, str], expected: list[type]) -> None:
    """By name, or by an endpoint."""
    outlets = span_outlets(variables, resource_of({}))
    assert len(outlets) == len(expected)
    for outlet, kind in zip(outlets, expected, strict=True):
        assert isinstance(outlet.exporter, kind)
        assert isinstance(outlet.form(SPAN), ReadableSpan if kind is ConsoleSpanExporter else Ready)
        outlet.exporter.shutdown()


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_encoded_spans_are_sent_as_they_are(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrives is what the sidecar's encoder made; the SDK's own exporters still encode as they did."""
    with (grpc_receiver if protocol == "grpc" else http_receiver)() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)  # the exporters read some themselves
        (outlet,) = span_outlets(variables, resource_of({}))
        assert _export(outlet, outlet.form(SPAN)) is SpanExportResult.SUCCESS
        outlet.exporter.shutdown()
        plain = (GrpcSpanExporter if protocol == "grpc" else HttpSpanExporter)()
        assert plain.export([as_sdk_span(SPAN, resource_of({}))]) is SpanExportResult.SUCCESS
        plain.shutdown()
    assert receiver.services == {"asynq-ttl"}
    first, second = receiver.spans
    assert first == second


@pytest.mark.parametrize(("module", "protocol"), [(http, "http/protobuf"), (grpc, "grpc")])
def test_an_exporter_that_encodes_otherwise_gets_spans_of_the_sdk(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, protocol: str
) -> None:
    """A later version may look its encoder up by another name: then encoding is left to it."""
    monkeypatch.setattr(module, "OTLPSpanExporter", InMemorySpanExporter)
    environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    (outlet,) = span_outlets(environment, resource_of({}))
    assert type(outlet.exporter) is InMemorySpanExporter
    assert isinstance(outlet.form(SPAN), ReadableSpan)


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
def test_where_metrics_go(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for metrics."""
    with (grpc_receiver if protocol == "grpc" else http_receiver)() as receiver:
        variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)  # the exporters read some themselves
        readers = metric_readers(variables | {"OTEL_METRICS_EXPORTER": "console,otlp"})
        assert len(readers) == 2
        MeterProvider(metric_readers=readers, shutdown_on_exit=False).shutdown()
    assert not metric_readers({"OTEL_TRACES_EXPORTER": "console"})


def test_the_services_name() -> None:
    """Given, or the program's own."""
    assert resource_of({}).attributes["service.name"] == "asynq-ttl"
    assert disabled({"OTEL_SDK_DISABLED": "true"})
    assert not disabled({})
