"""What a span costs: to make it, and to encode it, with the SDK's encoder and with the sidecar's. Prints microseconds.

python bench/spans.py [--spans 10000]
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # where the recorded decisions are

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from asynq_ttl.events import Outcome
from asynq_ttl.telemetry.exporters import resource_of
from asynq_ttl.telemetry.otlp import Encoder
from asynq_ttl.telemetry.spans import Spans
from support.recorded import UPSTREAM, outcome

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BATCH = 512


class Memory(SpanExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
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
    memory = Memory()
    resource = resource_of({})
    encoder = Encoder(resource)
    outcomes = [outcome(task_id=f"id-{number}", traceparent=PARENT) for number in range(count)]
    for what, to in (("made and encoded at once", encoder), ("made as spans of the SDK", None)):
        spans = Spans([memory], resource, UPSTREAM, task_ids=True, encoder=to)
        told(what, count, partial(settle, spans, outcomes))
        spans.shutdown(10)
        if to is not None:
            memory.spans.clear()
    attributes = dict(memory.spans[0].attributes or {})
    tracer = TracerProvider().get_tracer("bench")
    told(
        "made by the SDK's tracer",
        count,
        lambda: [tracer.start_span("x", kind=SpanKind.CLIENT, attributes=attributes).end() for _ in range(count)],
    )
    batches = [memory.spans[at : at + BATCH] for at in range(0, len(memory.spans), BATCH)]
    told("encoded by the sidecar", len(memory.spans), lambda: [encoder.encode(batch) for batch in batches])
    told(
        "encoded by the SDK",
        len(memory.spans),
        lambda: [encode_spans(batch).SerializePartialToString() for batch in batches],
    )


def settle(spans: Spans, outcomes: Sequence[Outcome]) -> None:
    """Make a span of each decision."""
    for one in outcomes:
        spans.settled(one, "enforce")


def told(what: str, count: int, work: Callable[[], object]) -> None:
    """Do it and print what it cost."""
    started = time.thread_time_ns()
    work()
    print(f"{what:<26} {(time.thread_time_ns() - started) / count / 1000:6.1f} µs a span")  # noqa: T201 - its output


if __name__ == "__main__":
    main()
