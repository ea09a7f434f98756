"""Where spans and metrics go: what the `OTEL_*` variables say that the SDK leaves to whoever starts it.

These are `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` (`otlp`, `console`, `none`, or several
with commas; without them `otlp` if an OTLP endpoint is set, else none), `OTEL_EXPORTER_OTLP_PROTOCOL`
(`http/protobuf`, `grpc`; also per signal) and the service's name. All others are read by the SDK itself.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from asynq_ttl.telemetry.otlp import Encoded, Encoder, message_of


class TelemetryError(ValueError):
    """An `OTEL_*` variable that cannot be followed; the message names it."""


def resource_of(environment: Mapping[str, str]) -> Resource:
    """Return what the telemetry is about: the service and what `OTEL_RESOURCE_ATTRIBUTES` adds."""
    attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in attributes
    return Resource.create({} if named else {"service.name": "asynq-ttl"})


def span_exporters(environment: Mapping[str, str], resource: Resource) -> tuple[list[SpanExporter], Encoder | None]:
    """Return the exporters of spans that the variables name, and the encoder whose bytes all of them take, if they do.

    Raises:
        TelemetryError: a variable names an exporter or protocol that does not exist.
    """
    exporters: list[SpanExporter] = []
    encoder, encodes = Encoder(resource), True
    for name in _exporter_names(environment, "TRACES"):
        if name == "console":
            exporters.append(ConsoleSpanExporter(out=sys.stdout))
            encodes = False
        elif _protocol(environment, "TRACES") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415 - heavy

            encodes = _replace_encoder(vars(grpc), _messages(encoder)) and encodes
            exporters.append(grpc.OTLPSpanExporter())
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415 - heavy

            encodes = _replace_encoder(vars(http), _bytes(encoder)) and encodes
            exporters.append(http.OTLPSpanExporter())
    return exporters, encoder if encodes else None


def _replace_encoder(exporter: dict[str, Any], encode: Callable[..., Any]) -> bool:
    """Have an exporter encode with `encode`: docs/decisions/0010.

    Args:
        exporter: the names of its module, among them that of its encoder.
        encode: what is called instead.

    Returns:
        Whether it will. A version that has no such name gets spans of the SDK: the same ones, more slowly.
    """
    if "encode_spans" not in exporter:
        return False
    exporter["encode_spans"] = encode
    return True


def metric_readers(environment: Mapping[str, str]) -> list[MetricReader]:
    """Return the readers that push metrics to where the variables name.

    Raises:
        TelemetryError: a variable names an exporter or protocol that does not exist.
    """
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


def _bytes(encoder: Encoder) -> Callable[[Sequence[ReadableSpan]], Any]:
    return lambda spans: Encoded(encoder.encode(spans))


def _messages(encoder: Encoder) -> Callable[[Sequence[ReadableSpan]], Any]:
    return lambda spans: message_of(encoder.encode(spans))


def disabled(environment: Mapping[str, str]) -> bool:
    """Say whether nothing is to be exported at all."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def _exporter_names(environment: Mapping[str, str], signal: str) -> list[str]:
    if disabled(environment):
        return []
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
