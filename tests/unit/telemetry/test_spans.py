"""Spans: built when sampled, handed over, never blocking."""

from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, TraceState

from asynq_ttl.events import Activated, FailedOpen, FailOpen
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry import spans
from asynq_ttl.telemetry.span_attributes import MAX_TEXT
from asynq_ttl.telemetry.spans import Spans
from support.kept_spans import RESOURCE, Memory
from support.recorded import ARCHIVE_SHA, END, START, UPSTREAM, adopted, outcome, swept


def made(exporter: Memory, *, task_ids: bool = True) -> Spans:
    """Return a maker of spans for that exporter."""
    return Spans([exporter.of_the_sdk()], RESOURCE, UPSTREAM, task_ids=task_ids)


def test_every_kind_of_span() -> None:
    """Each has a name, a kind and a status, and is in a trace of its own, whose ID is returned."""
    memory = Memory()
    tracing = made(memory)
    failure = FailedOpen(FailOpen.MESSAGE, "truncated", START, "archive", ARCHIVE_SHA, "mail", "id-1")
    traces = [
        tracing.decided(outcome(traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), "enforce"),
        tracing.swept(swept("a", "b", ghosts=1)),
        tracing.failed_open(failure),
        tracing.failed_open(FailedOpen(FailOpen.INTERNAL, "x", START)),
        tracing.activated(Activated("archive", "ab", "cd", START, END)),
        tracing.activated(Activated("archive", "ab", "cd", START, END, "timed out")),
        tracing.reloaded("abc", "enforce", START, END, ""),
        tracing.reloaded("abc", "enforce", START, END, "line 3: nonsense"),
    ]
    tracing.shutdown(2)
    found = {f"{span.context.trace_id:032x}": span for span in memory.spans if span.context}
    assert set(found) == set(traces)
    ordered = [found[trace] for trace in traces]
    assert [span.name for span in ordered] == [
        *("archive mail", "sweep mail", "fail_open message", "fail_open internal"),
        *("activate archive", "activate archive", "reload policy", "reload policy"),
    ]
    assert [span.status.status_code is StatusCode.ERROR for span in ordered] == [
        *(False, False, True, True, False, True, False, True)
    ]
    assert [span.kind for span in ordered[1:4]] == [SpanKind.CLIENT, SpanKind.INTERNAL, SpanKind.INTERNAL]
    assert len(ordered[0].links) == 1
    assert [event.attributes for event in ordered[1].events] == [
        {"messaging.message.id": "a"},
        {"messaging.message.id": "b"},
    ]
    assert dict(ordered[2].attributes or {})["messaging.message.id"] == "id-1"
    assert (ordered[0].start_time, ordered[0].end_time) == (START, END)
    assert tracing.made == tracing.exported["ok"] == 8


def test_no_exporter_no_span() -> None:
    """Nothing is made where nobody would get it."""
    tracing = Spans([], RESOURCE, UPSTREAM, task_ids=True)
    assert not tracing.on
    assert tracing.swept(swept("a")) == tracing.decided(outcome(), "enforce") == ""
    tracing.shutdown(1)


def test_the_sampler_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision that is not sampled builds nothing: no attribute, no ID of a span, nothing to export."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    memory = Memory()
    tracing = made(memory)
    monkeypatch.setattr(spans, "FinishedSpan", lambda *_: pytest.fail("built"))
    assert tracing.decided(outcome(), "enforce") == ""
    assert tracing.swept(swept("a")) == tracing.activated(Activated("archive", "ab", "cd", 0, 1)) == ""
    assert tracing.reloaded("a", "enforce", 0, 1, "") == ""
    assert tracing.failed_open(FailedOpen(FailOpen.INTERNAL, "x", 1)) == ""
    tracing.shutdown(1)
    assert not memory.spans


@pytest.mark.parametrize(
    "name",
    [
        *("traceidratio", "parentbased_traceidratio", "always_on", "always_off"),
        *("parentbased_always_on", "parentbased_always_off"),
    ],
)
def test_nothing_is_left_out_that_the_sampler_takes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is not in the share by its trace ID is told without the sampler, and is what it would leave out."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.25")
    tracing = made(Memory())
    for low in (0, 1, 2**62 - 1, 2**62, 2**62 + 1, 2**63, 2**64 - 1):
        trace_id = 7 << 64 | low
        monkeypatch.setattr(tracing._ids, "generate_trace_id", lambda: trace_id)  # noqa: B023 - called in this turn
        asked = tracing._sampler.should_sample(None, trace_id, "x", SpanKind.CLIENT)
        taken = asked.decision is Decision.RECORD_AND_SAMPLE
        assert (tracing._sampled("x", SpanKind.CLIENT) is not None) == taken
        assert bool(tracing.decided(outcome(), "enforce", (), None, (low, 7, 8))) == taken
    tracing.shutdown(1)


@pytest.mark.parametrize("root", [True, False])
def test_a_sampler_of_its_own_is_asked(monkeypatch: pytest.MonkeyPatch, *, root: bool) -> None:
    """By the name of the span, also as the root of one that the SDK knows; what it says of the trace is kept."""

    class Mail(Sampler):
        def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
            name = named["name"] if named else arguments[2]
            taken = Decision.RECORD_AND_SAMPLE if name == "archive mail" else Decision.DROP
            return SamplingResult(taken, trace_state=TraceState([("a", "b")]))

        def get_description(self) -> str:
            return "mail"

    made_by = partial(TracerProvider, ParentBased(Mail()) if root else Mail())
    monkeypatch.setattr(spans, "TracerProvider", made_by)
    tracing = made(Memory())
    ((low, high, span_id),) = tracing.draw(1)
    trace_id = high << 64 | low
    assert tracing.decided(outcome(queue="other"), "enforce", (), None, (low, high, span_id)) == ""
    assert tracing.decided(outcome(), "enforce", (), None, (low, high, span_id)) == f"{trace_id:032x}"
    assert tracing.latest == (trace_id, span_id, TraceState([("a", "b")]))
    tracing.shutdown(1)


def test_a_ratio_samples_about_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_TRACES_SAMPLER_ARG is the share."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.1")
    tracing = made(Memory())
    sampled = sum(bool(tracing.decided(outcome(), "enforce")) for _ in range(3_000))
    assert 200 < sampled < 400
    assert tracing.made == sampled
    tracing.shutdown(2)


def test_task_ids_can_be_hidden() -> None:
    """Without task IDs none is in a span or an event."""
    memory = Memory()
    tracing = made(memory, task_ids=False)
    tracing.decided(outcome(task_id="secret"), "enforce")
    tracing.swept(swept("secret"))
    tracing.failed_open(FailedOpen(FailOpen.MESSAGE, "x", 1, queue="mail", task_id="secret"))
    tracing.shutdown(2)
    assert len(memory.spans) == 3
    assert not any("secret" in span.to_json() for span in memory.spans)


def test_texts_are_bounded_and_can_be_sent() -> None:
    """Long task types are cut off; bytes that are not UTF-8 cannot spoil a whole batch."""
    memory = Memory()
    tracing = made(memory)
    tracing.decided(outcome(task_type="t" * 10_000, task_id="\udcff", queue="\udcff"), "enforce")
    tracing.shutdown(2)
    (span,) = memory.spans
    found = dict(span.attributes or {})
    assert len(str(found["asynq.task.type"])) == MAX_TEXT
    span.to_json().encode()
    assert found["messaging.message.id"] == "�"


@pytest.mark.parametrize(
    ("reply", "code", "error"),
    [(b"-NOT FOUND", "NOT", "NOT"), (b"!ERR failed", "ERR", "ERR"), (b"", None, "no_reply")],
)
def test_an_error_reply_is_the_status(reply: bytes, code: str | None, error: str) -> None:
    """The prefix of an error reply, or that there was none."""
    memory = Memory()
    tracing = made(memory)
    tracing.decided(outcome(reply), "enforce")
    tracing.shutdown(2)
    found = dict(memory.spans[0].attributes or {})
    assert (found.get("db.response.status_code"), found["error.type"]) == (code, error)
    assert memory.spans[0].status.status_code is StatusCode.ERROR


def test_a_slow_exporter_holds_nobody_up() -> None:
    """Making spans does not wait for export, and neither does the end: not even for one that never comes back."""
    memory = Memory(SpanExportResult.FAILURE)
    tracing = made(memory)
    memory.gate.clear()
    for _ in range(2_000):
        tracing.decided(outcome(), "enforce")
    tracing.shutdown(0.3)
    assert (tracing.made, memory.spans) == (2_000, [])
    memory.gate.set()


@pytest.mark.parametrize("task_ids", [True, False])
def test_a_bulk_operation_names_tasks_and_what_they_got(task_ids: bool) -> None:
    """Where that is known; names only where task IDs may be told."""
    memory = Memory()
    tracing = Spans([memory.of_the_sdk()], RESOURCE, UPSTREAM, task_ids=task_ids)
    bulk = outcome(b":12", task_id="")
    tracing.decided(bulk._replace(actions=(("ttl", 10), ("gone", 2))), "enforce", ["a", "b"])
    tracing.decided(bulk, "enforce")
    tracing.shutdown(2)
    found, unknown = memory.spans
    assert [(event.name, dict(event.attributes)) for event in found.events] == [
        ("moved", {"messaging.message.id": name}) for name in ("a", "b") if task_ids
    ]
    assert [found.attributes[f"asynq_ttl.tasks{action}"] for action in ("", ".ttl", ".gone")] == [12, 10, 2]
    assert unknown.attributes["asynq_ttl.tasks"] == 12
    assert not unknown.events
    assert "asynq_ttl.tasks.ttl" not in unknown.attributes


def test_another_server_is_named_once_it_is_told() -> None:
    """Also in what decisions have in common."""
    memory = Memory()
    tracing = made(memory)
    tracing.decided(outcome(), "enforce")
    tracing.name_server(Address("10.0.0.9", 7000))
    tracing.decided(outcome(), "enforce")
    tracing.switched("127.0.0.1:6379", START, END)
    tracing.shutdown(2)
    servers = [(span.attributes["server.address"], span.attributes["server.port"]) for span in memory.spans]
    assert servers == [("127.0.0.1", 6379), ("10.0.0.9", 7000), ("10.0.0.9", 7000)]
    assert memory.spans[2].attributes["asynq_ttl.upstream.previous"] == "127.0.0.1:6379"


def test_what_decisions_have_in_common_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit all is forgotten; the spans stay right."""
    monkeypatch.setattr(spans, "_MAX_SHARED", 20)
    memory = Memory()
    tracing = made(memory)
    for number in range(100):
        for mode in ("enforce", "shadow"):
            tracing.decided(outcome(task_type=f"type-{number}"), mode)
            assert len(tracing._shared) <= 20
    tracing.shutdown(2)
    told = [(span.attributes["asynq.task.type"], span.attributes["asynq_ttl.mode"]) for span in memory.spans]
    assert told == [(f"type-{number}", mode) for number in range(100) for mode in ("enforce", "shadow")]


def test_an_adoption_is_a_span_with_the_ids_of_its_tasks() -> None:
    """As events, and only where task IDs are wanted; none where it is not sampled."""
    for task_ids, named in ((True, ["a", "b"]), (False, [])):
        memory = Memory()
        tracing = made(memory, task_ids=task_ids)
        assert tracing.adopted(adopted("a", "b"))
        tracing.shutdown(2)
        (span,) = memory.spans
        assert (span.name, span.kind) == ("adopt mail", SpanKind.CLIENT)
        assert [dict(event.attributes or {})["messaging.message.id"] for event in span.events] == named
    assert Spans([], RESOURCE, UPSTREAM, task_ids=True).adopted(adopted("a")) == ""
