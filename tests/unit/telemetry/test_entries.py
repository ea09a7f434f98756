"""Entries: every record in words, each task named once, and found again whatever its ID is."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.events import FailOpen, Happened, Record
from asynq_ttl.telemetry.entries import MAX_IDS, MAX_TEXT, entries_of, entry_of, mark_of, tells_of
from support.recorded import END, adopted, failed_open, outcome, swept

IDS = st.binary(min_size=1, max_size=40).map(text_of) | st.integers(1, 2_000).map(lambda length: "x" * length)
ODD = [
    "a b",
    'quo"te',
    "{br}ace}:t:x",
    "new\nline",
    "\x00",
    text_of(b"\xff\xfe"),
    "é",
    "\N{REPLACEMENT CHARACTER}",
    "sweep",
]


def about(task_id: str) -> list[Record]:
    """Return a record of each kind about a task, among others."""
    return [
        outcome(task_id=task_id),
        swept("before", task_id, "after"),
        adopted("before", task_id),
        failed_open(FailOpen.MESSAGE, queue="mail", task_id=task_id),
    ]


@given(IDS)
def test_a_task_is_found_again(task_id: str) -> None:
    """In the entries of each kind of record one names it, and the mark stands in its JSON."""
    for record in about(task_id):
        found = [entry for entry in entries_of(record, "", task_ids=True) if tells_of(entry, task_id)]
        assert len(found) == 1 + (task_id in ("before", "after"))
        assert all(mark_of(task_id) in json.dumps(entry).encode() for entry in found)


@given(IDS, IDS)
def test_no_other_task_is_taken_for_it(task_id: str, other: str) -> None:
    """Two IDs that look alike are two tasks: those that are cut off, and those that are not UTF-8."""
    for record in about(task_id):
        found = [entry for entry in entries_of(record, "", task_ids=True) if tells_of(entry, other)]
        assert bool(found) == (task_id == other) or other in ("before", "after")


@pytest.mark.parametrize("task_id", ODD)
def test_odd_ids_are_json_for_everybody(task_id: str) -> None:
    """What is written is UTF-8 whatever the ID is, and one line."""
    for record in about(task_id):
        for entry in entries_of(record, "", task_ids=True):
            assert "\n" not in json.dumps(entry)
            json.dumps(entry, ensure_ascii=False).encode()


def test_ids_that_are_no_text_differ() -> None:
    """Both are shown with the same character, and each is found by itself alone."""
    one, other = text_of(b"x\xff"), text_of(b"x\xfe")
    (entry,) = entries_of(outcome(task_id=one), "", task_ids=True)
    assert entry["id"] == "x\N{REPLACEMENT CHARACTER}"
    assert tells_of(entry, one)
    assert not tells_of(entry, other)
    assert not tells_of(entry, entry["id"])
    assert not tells_of(entry_of(swept(one), "", task_ids=True), other)


def test_ids_that_are_too_long_differ() -> None:
    """They are cut off, and each is found by itself alone."""
    one, other = "x" * MAX_TEXT + "1", "x" * MAX_TEXT + "2"
    (entry,) = entries_of(outcome(task_id=one), "", task_ids=True)
    assert len(entry["id"]) == MAX_TEXT
    assert tells_of(entry, one)
    assert not tells_of(entry, other)


def test_the_queue_has_to_be_the_same() -> None:
    """An ID may be that of a task in each queue."""
    (entry,) = entries_of(outcome(task_id="a", queue="mail"), "", task_ids=True)
    assert tells_of(entry, "a", "mail")
    assert not tells_of(entry, "a", "low")


def test_each_task_of_a_sweep_gets_an_entry() -> None:
    """However many there are; the ghosts, which nobody names, get one together."""
    names = [f"task-{number}" for number in range(3 * MAX_IDS)]
    entries = list(entries_of(swept(*names, ghosts=2), "ab" * 16, task_ids=True))
    assert [entry.get("id") for entry in entries] == [*names, None]
    assert {entry["action"] for entry in entries[:-1]} == {"delete"}
    assert (entries[-1]["action"], entries[-1]["ghosts"]) == ("none", 2)
    assert {entry["trace_id"] for entry in entries} == {"ab" * 16}
    assert not any({"ids", "tasks"} & set(entry) for entry in entries)
    assert len(entry_of(swept(*names), "", task_ids=True)["ids"]) == MAX_IDS


def test_a_removal_names_the_sink() -> None:
    """Where one had the task before; else there is none."""
    page = swept("a")
    handed = replace(page, sink="file:/tmp/x")
    assert [entry["sink"] for entry in entries_of(handed, "", task_ids=True)] == ["file:/tmp/x"]
    assert "sink" not in entry_of(page, "", task_ids=True)


def test_hidden_ids_are_nowhere() -> None:
    """Of a page there is one entry then, with the number of its tasks."""
    for record in about("secret" + text_of(b"\xff")):
        entries = list(entries_of(record, "", task_ids=False))
        assert len(entries) == 1
        assert "secret" not in json.dumps(entries)
        assert "sha256" not in json.dumps(entries)
    (entry,) = entries_of(swept("a", "b", ghosts=1), "", task_ids=False)
    assert (entry["tasks"], entry["ghosts"]) == (2, 1)


def test_what_happens_to_the_sidecar_is_told() -> None:
    """A reload, a switch and their like."""
    (entry,) = entries_of(Happened("switch", END, "ok", "from a to b"), "", task_ids=True)
    assert (entry["kind"], entry["result"], entry["detail"]) == ("switch", "ok", "from a to b")
