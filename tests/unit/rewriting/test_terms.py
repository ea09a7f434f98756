"""What is filled in for one task of many that end alike."""

import pytest

from asynq_ttl.events import Action, Decision
from asynq_ttl.rewriting.terms import Terms, alike

NOW = 1_700_000_000
TOLD = Decision(
    "archive", "asynq.archive", "q", "archived", Action.TTL, True, task_type="t", rule="r", ttl_seconds=7, own_seconds=9
)


@pytest.mark.parametrize(
    ("terms", "tail", "score"),
    [
        (Terms(b"p", TOLD, b"5", timed=False), b"5", b""),
        (Terms(b"p", TOLD, b"5", timed=True, score=b"9"), b"5", b"9"),
        (Terms(b"p", TOLD, b"5", timed=True, added=60), b"5", b"%d" % (NOW + 60)),
        (Terms(b"p", TOLD, b"5 ", timed=True, age=NOW - 8, rest=b" 3"), b"5 8 3", b""),
    ],
)
def test_times_are_filled_in(terms: Terms, tail: bytes, score: bytes) -> None:
    """Where the clocks are not known to agree, Redis is asked for its own."""
    assert terms.fill(NOW, agrees=True) == (tail, score)
    assert terms.fill(NOW, agrees=False) == (b"?%d %b" % (NOW, tail), score)


def test_a_decision_is_told_of_its_task() -> None:
    """All else is as it was decided."""
    terms = Terms(b"p", TOLD, b"5", timed=False)
    told = terms.told("id", "parent", "state", 11, enforced=False)
    assert type(told) is Decision
    assert told == TOLD._replace(task_id="id", traceparent="parent", tracestate="state", size_bytes=11, enforced=False)


def test_calls_are_told_apart_by_each_of_four_things() -> None:
    """However these are cut into pieces."""
    calls = [
        (b"index", "type", 5, b"10"),
        (b"index", "type", 5, b"1"),
        (b"index", "type", 51, b"0"),
        (b"index", "type", -5, b"10"),
        (b"inde", "xtype", 5, b"10"),
        (b"index", "type1", 5, b"0"),
        (b"index", "type\udcff", 5, b"10"),
    ]
    assert len({alike(*call) for call in calls}) == len(calls)
