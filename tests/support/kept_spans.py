"""An exporter that keeps spans, and outlets to it: spans of the SDK, or spans in bytes."""

import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from asynq_ttl.telemetry.exporters import Outlet, resource_of
from asynq_ttl.telemetry.finished_span import as_sdk_span
from asynq_ttl.telemetry.otlp import encode

RESOURCE = resource_of({})


class Memory(SpanExporter):
    """Keeps what it is given; may refuse it, and takes nothing while its `gate` is not set."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[Any] = []
        self.result = result
        self.gate = threading.Event()
        self.gate.set()

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Take spans."""
        self.gate.wait()
        self.spans.extend(spans)
        return self.result

    def shutdown(self) -> None:
        """End."""

    def of_the_sdk(self) -> Outlet:
        """Return an outlet by which spans of the SDK come here."""
        return Outlet(self, partial(as_sdk_span, resource=RESOURCE))

    def in_bytes(self) -> Outlet:
        """Return an outlet by which encoded spans come here."""
        return Outlet(self, encode)
