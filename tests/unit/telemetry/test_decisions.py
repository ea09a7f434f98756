"""Decisions are told many at once, and that comes to what telling each at once would come to."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.events import Action, FailOpen, Outcome
from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.telemetry import decisions as decisions_module
from asynq_ttl.telemetry.bulk_operations import BulkOperations
from asynq_ttl.telemetry.decisions import MOST_UNTOLD, Decisions
from asynq_ttl.telemetry.recent import EntryFilter, Recent
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.telemetry.spans import Spans
from asynq_ttl.telemetry.task_counts import Count
from asynq_ttl.upstream.endpoint import Endpoint
from support.kept_spans import RESOURCE, Memory
from support.recorded import END, START, UPSTREAM, decision, failed_open, outcome

KEY = ("mail", "archived", "default", "ttl", "enforce")
OUTCOMES = st.builds(
    lambda reply, at, **changes: Outcome(decision(**changes), 0, START + at, END + at, reply),
    st.sampled_from([b"+OK", b"+OK", b"+OK", b"-NOT FOUND", b"", b":3"]),
    st.integers(0, 5),
    queue=st.sampled_from(["mail", "mail", "other"]),
    task_id=st.sampled_from(["id-1", "id-2", ""]),
    task_type=st.sampled_from(["a", "b", "x" * 3_000]),
    rule=st.sampled_from(["first", "second", ""]),
    action=st.sampled_from([Action.TTL, Action.KEEP]),
    enforced=st.booleans(),
    own_seconds=st.sampled_from([600, 0, None]),
    traceparent=st.sampled_from(["", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]),
)
# What tells kinds apart, one by one.
DIFFERENT: list[dict[str, Any]] = [
    {"operation": "complete"},
    {"script": "asynq.fail"},
    {"queue": "other"},
    {"state": "completed"},
    {"action": Action.KEEP},
    {"enforced": False},
    {"task_type": ""},
    {"rule": ""},
    {"ttl_seconds": None},
    {"own_seconds": 0},
]
HALF = {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5", "OTEL_TRACES_EXPORTER": "console"}


def told(outcomes: Sequence[Outcome]) -> list[object]:
    """Return all that is told of decisions, with trace IDs that are the same each time."""
    random.seed(7)
    noted = Telemetry(UPSTREAM, HALF)
    also: list[tuple[object, str]] = []
    noted.recent.tell(lambda record, trace_id: also.append((record, trace_id)))
    with noted.recent.watch(EntryFilter()) as watcher:
        for each in outcomes:
            noted.decided(each)
        entries = noted.recent.latest(EntryFilter())
        watched = list(watcher._queue)
    counts = dict(noted.decisions), noted.task_counts.kinds, noted.task_counts.others
    made, latest = noted.spans.made, noted.latest_span
    noted.shutdown()
    return [entries, watched, also, counts, list(counts[0]), list(counts[1]), made, latest]


@given(st.lists(OUTCOMES, max_size=20))
def test_many_at_once_are_told_as_each_at_once(outcomes: list[Outcome]) -> None:
    """The counts, what is kept, watched and logged, the trace IDs and the order; times are those of the decision."""

    async def batched() -> list[object]:
        return told(outcomes)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decisions_module, "MAX_DECISION_SERIES", 3)
        assert asyncio.run(batched()) == told(outcomes)


@given(st.lists(st.tuples(st.sampled_from([*DIFFERENT, {}]), st.integers(0, 9)), max_size=30))
def test_a_kind_stands_for_all_that_its_decisions_have_in_common(drawn: list[tuple[dict[str, Any], int]]) -> None:
    """Spans and counts are those of each decision by itself, also where kinds are forgotten in between."""
    outcomes = [outcome(task_id=f"id-{size}", size_bytes=size, **changes) for changes, size in drawn]
    memory, alone = Memory(), Memory()
    spans, apart = (Spans([each.of_the_sdk()], RESOURCE, UPSTREAM, task_ids=True) for each in (memory, alone))
    noted = Decisions(spans, Recent(), BulkOperations(None, 10))
    tasks: dict[tuple[str, str, str, int | None], Count] = {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decisions_module, "_MAX_KINDS", 8)
        for each in outcomes:
            noted.note(each)
            assert len(noted._kinds) <= 8
            apart._shared.clear()
            one = each.decision
            apart.decided(each, "enforce" if one.enforced else "shadow")
            kind = one.queue, one.task_type, one.state, one.own_seconds
            before = tasks.get(kind, Count())
            tasks[kind] = Count(before.tasks + 1, before.size_bytes + one.size_bytes)
    spans.shutdown(5)
    apart.shutdown(5)
    assert [(span.name, span.attributes) for span in memory.spans] == [
        (span.name, span.attributes) for span in alone.spans
    ]
    assert noted.task_counts.kinds == tasks
    labels = [
        (one.queue, one.state, one.rule, one.action.value, "enforce" if one.enforced else "shadow")
        for one, *_ in outcomes
    ]
    assert noted.counts == Counter(labels)


async def test_they_are_told_a_moment_later() -> None:
    """Also where nobody looks."""
    noted = Telemetry(UPSTREAM, {})
    also: list[str] = []
    noted.recent.tell(lambda _, trace_id: also.append(trace_id))
    noted.decided(outcome())
    noted.decided(outcome())
    assert not also
    await asyncio.sleep(0.1)
    assert also == ["", ""]


async def test_who_looks_finds_all() -> None:
    """Whatever is looked at."""
    for look in (
        lambda noted: noted.decisions[KEY],
        lambda noted: sum(count.tasks for count in noted.task_counts.kinds.values()),
        lambda noted: len(noted.recent.latest(EntryFilter())),
        lambda noted: len(noted.recent.of_task("id-1")),
    ):
        noted = Telemetry(UPSTREAM, {})
        noted.decided(outcome())
        assert look(noted) == 1


async def test_what_is_told_of_later_comes_behind() -> None:
    """A fail-open is an entry at once; what was decided before stands before it."""
    noted = Telemetry(UPSTREAM, {})
    kinds: list[str] = []
    noted.recent.tell(lambda record, _: kinds.append(type(record).__name__))
    noted.decided(outcome())
    noted.failed_open(failed_open(FailOpen.SHAPE))
    assert kinds == ["Outcome", "FailedOpen"]


async def test_nothing_is_lost_at_the_end() -> None:
    """What waits is told, and exported, before the exporters end."""
    noted = Telemetry(UPSTREAM, {"OTEL_TRACES_EXPORTER": "console"})
    noted.decided(outcome())
    await noted.finish_spans()
    noted.decided(outcome())
    await asyncio.to_thread(noted.shutdown)
    assert noted.spans.exported == {"ok": 2}


async def test_a_decision_about_many_tasks_is_told_at_once() -> None:
    """They are searched for in Redis, where they may not stay; what was noted before is told first."""
    noted = Telemetry(UPSTREAM, {})
    told: list[str] = []
    noted.recent.tell(lambda record, _: told.append(getattr(record, "decision", decision()).task_id))
    noted.decided(outcome())
    noted.decided(outcome(b":3", task_id="", own_seconds=None))
    assert told == ["id-1", ""]


async def test_what_waits_is_bounded() -> None:
    """So many are told without a pause."""
    noted = Telemetry(UPSTREAM, {})
    also: list[str] = []
    noted.recent.tell(lambda _, trace_id: also.append(trace_id))
    for _ in range(MOST_UNTOLD - 1):
        noted.decided(outcome())
    assert not also
    noted.decided(outcome())
    assert len(also) == MOST_UNTOLD


async def test_a_node_is_named_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have moved before its decision is told."""
    noted = Telemetry(UPSTREAM, {"OTEL_TRACES_EXPORTER": "console"})
    named: list[object] = []

    def made(*arguments: object, **_: object) -> str:
        named.append(arguments[3])
        return ""

    monkeypatch.setattr(noted.spans, "decided", made)
    node = Endpoint(parse_upstream("redis://10.0.0.1:7001"))
    noted.decided(outcome(), node)
    node.address = Address("10.0.0.2", 7002)
    noted.tell()
    assert named == [Address("10.0.0.1", 7001)]
    noted.shutdown()


async def test_a_bug_costs_only_what_it_is_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and later decisions are told."""
    noted = Telemetry(UPSTREAM, {})
    noted.decided(outcome())
    with monkeypatch.context() as patched:
        patched.setattr(Decisions, "_kind_of", lambda *_: json.loads("x"))
        noted.tell()
    assert caplog.messages == ["telemetry cannot tell of some of 1 decisions"]
    caplog.clear()
    noted.decided(outcome())
    assert noted.task_counts.kinds == {("mail", "email:send", "archived", 7_776_000): Count(1, 100)}
