"""What a span costs: to make it, and to encode it, with the SDK's encoder and with the sidecar's. Prints microseconds.

python bench/spans.py [--spans 10000]
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the recorded decisions are

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from asynq_ttl.events import Outcome
from asynq_ttl.telemetry.exporters import Outlet, resource_of
from asynq_ttl.telemetry.finished_span import as_sdk_span
from asynq_ttl.telemetry.otlp import Encoder, Ready, encode
from asynq_ttl.telemetry.spans import Spans
from support.recorded import UPSTREAM, outcome

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BATCH = 512


Span = TypeVar("Span", Ready, ReadableSpan)


class Memory(SpanExporter, Generic[Span]):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[Span] = []

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        """Take spans."""
        self.spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """End."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=10_000)  # fewer than the queue holds
    count = parser.parse_args().spans
    resource = resource_of({})
    encoder = Encoder(resource)
    outcomes = [outcome(task_id=f"id-{number}", traceparent=PARENT) for number in range(count)]
    encoded, of_the_sdk = Memory[Ready](), Memory[ReadableSpan]()
    outlets = Outlet(encoded, encode), Outlet(of_the_sdk, partial(as_sdk_span, resource=resource))
    for what, outlet in zip(("made and encoded at once", "made as spans of the SDK"), outlets, strict=True):
        spans = Spans([outlet], resource, UPSTREAM, task_ids=True)
        told(what, count, partial(decide, spans, outcomes))
        spans.shutdown(10)
    attributes = dict(of_the_sdk.spans[0].attributes or {})
    tracer = TracerProvider().get_tracer("bench")
    told(
        "made by the SDK's tracer",
        count,
        lambda: [tracer.start_span("x", kind=SpanKind.CLIENT, attributes=attributes).end() for _ in range(count)],
    )
    told("requests by the sidecar", count, lambda: [encoder.request(batch) for batch in batches(encoded.spans)])
    told(
        "requests by the SDK",
        count,
        lambda: [encode_spans(batch).SerializePartialToString() for batch in batches(of_the_sdk.spans)],
    )


def batches(spans: list[Span]) -> list[list[Span]]:
    """Return spans as they are exported."""
    return [spans[at : at + BATCH] for at in range(0, len(spans), BATCH)]


def decide(spans: Spans, outcomes: Sequence[Outcome]) -> None:
    """Make a span of each decision."""
    for one in outcomes:
        spans.decided(one, "enforce")


def told(what: str, count: int, work: Callable[[], object]) -> None:
    """Do it and print what it cost."""
    started = time.thread_time_ns()
    work()
    print(f"{what:<26} {(time.thread_time_ns() - started) / count / 1000:6.1f} µs a span")  # noqa: T201 - its output


if __name__ == "__main__":
    main()
