"""What the `OTEL_*` variables mean."""

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter

from asynq_ttl.telemetry.exporters import TelemetryError, disabled, metric_readers, resource_of, span_exporters
from support.otlp import grpc_receiver, http_receiver

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
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


@pytest.mark.parametrize(("variables", "expected"), CASES.values(), ids=CASES)
def test_where_spans_go(variables: dict[str, str], expected: list[type]) -> None:
    """By name, or by an endpoint."""
    exporters, encoder = span_exporters(variables, resource_of({}))
    assert [type(exporter) for exporter in exporters] == expected
    assert (encoder is None) == (ConsoleSpanExporter in expected)
    for exporter in exporters:
        exporter.shutdown()


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


@pytest.mark.parametrize(
    "variables",
    [{"OTEL_TRACES_EXPORTER": "jaeger"}, ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}],
)
def test_what_does_not_exist_is_refused(variables: dict[str, str]) -> None:
    """A misspelt exporter or protocol is a fault that names the variable."""
    with pytest.raises(TelemetryError, match=r"OTEL_.*: (there is no exporter 'jaeger'; )?expected"):
        span_exporters(variables, resource_of({}))


def test_the_services_name() -> None:
    """Given, or the program's own."""
    assert resource_of({}).attributes["service.name"] == "asynq-ttl"
    assert disabled({"OTEL_SDK_DISABLED": "true"})
    assert not disabled({})
