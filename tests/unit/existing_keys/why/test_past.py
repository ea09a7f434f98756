"""What became of a task: only what was noted is told as a fact."""

from typing import Any

import pytest

from asynq_ttl.events import Action, FailOpen, Swept
from asynq_ttl.existing_keys.why.past import POSSIBLE, end_of, merged, rule_then, sentence_of
from asynq_ttl.policy.rules import State
from asynq_ttl.telemetry.entries import entries_of
from support.recorded import END, START, adopted, failed_open, outcome, swept


def entry(record: Any, trace_id: str = "") -> dict[str, Any]:
    """Return the only entry of a record."""
    (made,) = entries_of(record, trace_id, task_ids=True)
    return made


LATE = END // 10**9 + 3_600 + 60
SWEPT = entry(Swept(0, "mail", State.ARCHIVED, 1, ("id-1",), 0, START, END, "file:/var/lib/ended"))
SENTENCES: dict[str, tuple[dict[str, Any], str]] = {
    "archived": (
        entry(outcome(), "ab" * 16),
        f"queue mail: archived. By rule default its key got a TTL of 1h1m, grace included. Trace {'ab' * 16}.",
    ),
    "Asynq's own": (entry(outcome(action=Action.KEEP)), "By rule default its key got Asynq's own time as TTL"),
    "for ever": (
        entry(outcome(action=Action.NONE, ttl_seconds=None)),
        "By rule default it is kept for ever, without a TTL.",
    ),
    "deleted": (
        entry(outcome(action=Action.DELETE, operation="complete")),
        "completed. By rule default it was removed at once.",
    ),
    "run again": (
        entry(outcome(operation="run", action=Action.PERSIST, rule="", ttl_seconds=None)),
        "run again. Its TTL was taken off.",
    ),
    "picked in Redis": (
        entry(outcome(rule="", ttl_seconds=None)),
        "archived. A rule picked inside Redis decided about its key; what it said was not noted.",
    ),
    "done": (
        entry(outcome(operation="complete", state="completed", rule="", ttl_seconds=None)),
        "A rule picked inside Redis decided whether it is kept, and for how long; what it said was not noted.",
    ),
    "done, in shadow mode": (
        entry(outcome(operation="complete", state="completed", rule="", ttl_seconds=None, enforced=False)),
        "what it said was not noted, for show only: nothing was changed.",
    ),
    "replaced": (
        entry(outcome(b":1", operation="replace", action=Action.REPLACED, ttl_seconds=None)),
        "an enqueue with its ID took the place of the archived task. By rule default that one was replaced.",
    ),
    "replaced, in shadow mode": (
        entry(outcome(b":0", operation="replace", action=Action.REPLACED, ttl_seconds=None, enforced=False)),
        "would have taken the place of the archived task. By rule default that one was replaced, for show only",
    ),
    "by effect": (entry(outcome(operation="end", state="ended")), ": ended. By"),
    "in shadow mode": (entry(outcome(enforced=False)), "for show only: nothing was changed."),
    "refused": (entry(outcome(b"-NOT FOUND")), 'archived, which failed: "NOT FOUND".'),
    "swept": (
        SWEPT,
        "by the sweeper, because its time was over. The sink file:/var/lib/ended had taken it before.",
    ),
    "swept, no sink": (entry(swept("id-1")), "because its time was over."),
    "adopted": (entry(adopted("id-1")), "adopted by the sweeper, as archived task without a TTL. By rule default"),
    "failed open": (
        entry(failed_open(FailOpen.MESSAGE, "cut off", task_id="a")),
        'forwarded untouched (message: "cut off").',
    ),
    "unknown": ({"kind": "decision", "state": "odd", "action": "odd"}, "moved to odd."),
}


@pytest.mark.parametrize(("noted", "said"), SENTENCES.values(), ids=SENTENCES)
def test_what_is_said_of_an_entry(noted: dict[str, Any], said: str) -> None:
    """In plain words, with the rule, the sink and the trace."""
    assert said in sentence_of(noted)


ENDS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "swept": (
        [entry(outcome()), SWEPT],
        "time was over. Rule default had decided how long it is kept. The sink file:/var/lib/ended had it before.",
    ),
    "swept, rule unknown": ([entry(swept("a"))], "because its time was over."),
    "deleted": ([entry(outcome(action=Action.DELETE))], "rule default does not keep such a task, and removed it at"),
    "run again": ([entry(outcome(operation="run", action=Action.PERSIST))], "What became of it then was not noted"),
    "replaced": (
        [entry(outcome()), entry(outcome(b":1", operation="replace", action=Action.REPLACED))],
        "in place of the task with its ID that had ended. What became of it then was not noted",
    ),
    "a TTL": ([entry(outcome())], "was to live for 1h1m from then on. What removed it was not noted. It may be that"),
    "trimmed": ([entry(outcome())], "that too many newer ones were archived, so that it was trimmed, "),
    "cleaned": ([entry(outcome())], "that it was deleted by hand, by `asynq-ttl clean` or by `backfill`"),
    "done": (
        [entry(outcome(operation="complete", state="completed", rule="", ttl_seconds=None))],
        "It may be that no rule keeps such a task, so that Asynq deleted it at once, that its time was over,",
    ),
    "refused last": ([SWEPT, entry(outcome(b"-ERR x"))], "because its time was over"),
    "shadowed": ([entry(outcome(enforced=False))], "What became of it then is not known."),
    "failed open": ([entry(failed_open(FailOpen.SHAPE, task_id="a"))], "What became of it then is not known."),
}


@pytest.mark.parametrize(("noted", "said"), ENDS.values(), ids=ENDS)
def test_what_became_of_it(noted: list[dict[str, Any]], said: str) -> None:
    """The last that was done; what was only decided for show, or refused, was not done."""
    assert said in end_of(noted, LATE, gone=True)


def test_a_time_that_is_not_over_removed_nothing() -> None:
    """Where it is known what time it is; a task that completed was not trimmed either."""
    archived, completed = [entry(outcome())], [entry(outcome(operation="complete", state="completed"))]
    assert "its time was over" not in end_of(archived, LATE - 3_600, gone=True)
    assert "It may be that too many newer ones were archived" in end_of(archived, LATE - 3_600, gone=True)
    assert "its time was over" in end_of(archived, 0, gone=True)
    assert "trimmed" not in end_of(completed, LATE, gone=True)
    assert "its time was over" not in end_of([archived[0] | {"ttl_seconds": 10**30}], LATE, gone=True)


@pytest.mark.parametrize("noted", [noted for noted, _ in ENDS.values()], ids=list(ENDS))
def test_where_nobody_looked_it_is_not_called_gone(noted: list[dict[str, Any]]) -> None:
    """Redis was not asked, or not this queue: what was noted is all that is known."""
    assert "is gone" not in end_of(noted, LATE, gone=False)


def test_what_is_not_known_where_nobody_looked() -> None:
    """Of a task that had time left, and of one that the sweeper removed."""
    assert end_of([entry(outcome())], 0, gone=False).endswith("from then on. Whether it is still there is not known.")
    assert end_of([SWEPT], 0, gone=False).startswith("The sweeper of a sidecar removed it at ")


def test_the_rule_that_decided_last() -> None:
    """One whose decision was refused did not."""
    noted = [entry(outcome(rule="first")), entry(outcome(rule="second")), entry(outcome(b"-ERR", rule="third")), SWEPT]
    assert rule_then(noted) == "second"
    assert rule_then([*noted, entry(outcome(b":1", operation="replace", rule="fourth"))]) == "second"
    assert rule_then([SWEPT]) == ""


def test_an_entry_of_another_database_says_so() -> None:
    """Two databases can have a queue of one name, and each its own entries at one moment."""
    here, there = entry(outcome()) | {"database": 0}, entry(outcome()) | {"database": 3}
    assert " queue mail: archived" in sentence_of(here)
    assert " queue mail of database 3: archived" in sentence_of(there)
    assert merged([here, there], [there]) == [here, there]


def test_each_entry_is_told_once() -> None:
    """The journal names many tasks in one entry, the log each in its own."""
    page = swept("a", "id-1")
    logged = [each for each in entries_of(page, "", task_ids=True) if each["id"] == "id-1"]
    journal = [SWEPT | {"ids": ["a", "id-1"]}, {"kind": "reload", "time": "2020"}]
    assert merged(logged, journal) == [{"kind": "reload", "time": "2020"}, *logged]


def test_entries_of_odd_shapes_are_merged() -> None:
    """Whoever has written them."""
    odd: list[dict[str, Any]] = [{"time": "2020", "kind": ["a"], "queue": {}}, {"time": "2021", "state": []}]
    assert merged(odd, odd) == odd


def test_what_may_have_happened_is_no_fact() -> None:
    """There are several, and the commonest is among them: success without Retention."""
    assert len(POSSIBLE) > 3
    assert any("no Retention" in each for each in POSSIBLE)
