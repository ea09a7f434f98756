"""Where spans and metrics go: what the `OTEL_*` variables say that the SDK leaves to whoever starts it.

These are `OTEL_SDK_DISABLED`, `OTEL_TRACES_EXPORTER` and `OTEL_METRICS_EXPORTER` (`otlp`, `console`, `none`, or several
with commas; without them `otlp` if an OTLP endpoint is set, else none), `OTEL_EXPORTER_OTLP_PROTOCOL`
(`http/protobuf`, `grpc`; also per signal) and the service's name. All others are read by the SDK itself. What cannot be
used is not seen here: `environment` has taken it out.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType
from typing import NamedTuple

from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from asynq_ttl.telemetry.finished_span import FinishedSpan, as_sdk_span


class Outlet(NamedTuple):
    """Where spans go, and what makes of a finished span the form that is taken there."""

    exporter: SpanExporter
    form: Callable[[FinishedSpan], bytes | ReadableSpan]


def resource_of(environment: Mapping[str, str]) -> Resource:
    """Return what the telemetry is about: the service and what `OTEL_RESOURCE_ATTRIBUTES` adds."""
    attributes = environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in attributes
    return Resource.create({} if named else {"service.name": "asynq-ttl"})


def span_outlets(environment: Mapping[str, str], resource: Resource) -> list[Outlet]:
    """Return the exporters of spans that the variables name, each with the form that it takes."""
    outlets: list[Outlet] = []
    for name in _exporter_names(environment, "TRACES"):
        if name == "console":
            outlets.append(Outlet(ConsoleSpanExporter(out=sys.stdout), partial(as_sdk_span, resource=resource)))
        elif _protocol(environment, "TRACES") == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as grpc  # noqa: PLC0415 - heavy

            outlets.append(_otlp_outlet(grpc.OTLPSpanExporter, resource, as_bytes=False))
        else:
            from opentelemetry.exporter.otlp.proto.http import trace_exporter as http  # noqa: PLC0415 - heavy

            outlets.append(_otlp_outlet(http.OTLPSpanExporter, resource, as_bytes=True))
    return outlets


def _otlp_outlet(exporter: type[SpanExporter], resource: Resource, *, as_bytes: bool) -> Outlet:
    """Return an OTLP exporter that sends the bytes that `otlp` makes of spans; docs/decisions/0010.

    It is a subclass of the SDK's with a method of its own: the very code of the SDK's method that calls `encode_spans`,
    which finds another function under that name. (The exporters have no parameter for an encoder. Which method calls
    it, and what else that method does, differs from version to version.)

    Args:
        exporter: the SDK's exporter. A version that looks for no such name gets spans of the SDK, and is slower.
        resource: what the spans are about.
        as_bytes: whether it takes a request that is encoded already, instead of a message of protobuf.
    """
    from asynq_ttl.telemetry import otlp  # noqa: PLC0415 - with protobuf

    encoder = otlp.Encoder(resource)
    request = otlp.EncodedRequest if as_bytes else otlp.message_of

    def encode_spans(spans: Sequence[otlp.Ready]) -> object:
        return request(encoder.request(spans))

    methods = {
        name: FunctionType(
            method.__code__,
            method.__globals__ | {"encode_spans": encode_spans},
            name,
            method.__defaults__,
            method.__closure__,
        )
        for name, method in vars(exporter).items()
        if isinstance(method, FunctionType) and "encode_spans" in method.__code__.co_names
    }
    if not methods:
        return Outlet(exporter(), partial(as_sdk_span, resource=resource))
    return Outlet(type(exporter.__name__, (exporter,), methods)(), otlp.encode)


def metric_readers(environment: Mapping[str, str]) -> list[MetricReader]:
    """Return the readers that push metrics to where the variables name."""
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
    names = [name.strip().lower() for name in text.split(",")]
    return [name for name in dict.fromkeys(names) if name in ("otlp", "console")]


def _protocol(environment: Mapping[str, str], signal: str) -> str:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if value := environment.get(variable, "").strip().lower():
            return value
    return "http/protobuf"
