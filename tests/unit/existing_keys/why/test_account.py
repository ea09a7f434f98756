"""The whole answer: JSON and sentences that say the same, and never more than is known."""

import json
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.why.account import Evidence, account
from asynq_ttl.existing_keys.why.find import Whereabouts
from asynq_ttl.existing_keys.why.past import POSSIBLE
from asynq_ttl.telemetry.entries import entries_of
from support.recorded import outcome, swept
from support.scripted_database import NOW, task_of
from support.whereabouts import where

DECIDED, REMOVED = (next(entries_of(record, "ab" * 16, task_ids=True)) for record in (outcome(), swept("id-1")))
THERE = where(task_of("archived", score=NOW, ttl_ms=1_000))


def answer(*found: Whereabouts, entries: tuple[Any, ...] = (), now: int = NOW, notes: tuple[str, ...] = ()) -> Any:
    """Return an answer, which can be JSON and printed."""
    told = account(Evidence(b"a", found, now, entries, None, notes))
    json.dumps(told)
    assert all(line.isprintable() for line in told["sentences"])
    return told


def test_a_task_that_is_there() -> None:
    """What it is, what was noted of it, and whom was asked; nothing is merely possible."""
    told = answer(THERE, entries=(DECIDED,), notes=("Redis was asked.", "Redis was asked."))
    text = "\n".join(told["sentences"])
    assert (told["known"], told["whole"], told["possible"], told["end"]) == (True, True, [], [])
    assert (told["rule_then"], told["trace_ids"], told["tasks"][0]["state"]) == ("default", ["ab" * 16], "archived")
    assert "Task a is archived" in text
    assert "Then decided: rule default." in text
    assert text.count("Redis was asked.") == 1


def test_a_task_that_is_gone() -> None:
    """What became of it comes first."""
    told = answer(entries=(DECIDED, REMOVED))
    assert told["known"]
    assert told["sentences"][0] == "Task a: Redis has nothing of it, where it was asked."
    assert told["sentences"][1] == told["end"][0]
    assert "It is gone" in told["end"][0]
    assert told["possible"] == []
    unasked = answer(entries=(DECIDED, REMOVED), now=0)
    assert unasked["sentences"][0] == "Task a: Redis was not asked."


def test_a_task_of_which_nothing_is_known() -> None:
    """What could have happened is told as no more than that."""
    told = answer()
    assert not told["known"]
    assert told["possible"] == list(POSSIBLE)
    assert told["sentences"][0].startswith("Nothing is known of task a. What could have happened")


def test_a_ghost_of_a_task_that_is_gone() -> None:
    """Both are told."""
    told = answer(where(Task("q", b"a", "", exists=False), "archived"), entries=(DECIDED, REMOVED))
    text = "\n".join(told["sentences"])
    assert "a ghost" in text
    assert "It is gone" in text
    assert told["possible"] == []


def test_many_entries() -> None:
    """The latest are told, JSON has them all."""
    told = answer(THERE, entries=tuple(DECIDED | {"time": str(number)} for number in range(50)))
    lines = [line for line in told["sentences"] if line.startswith("  ")]
    assert len(told["events"]) == 50
    assert lines[0] == "  … and 30 earlier ones, which --json has"
    assert lines[-1].startswith("  49 ")


@pytest.mark.parametrize(("task_id", "encoded"), [(b"a\xff", "Yf8="), (b"plain", None)])
def test_an_id_that_is_no_text(task_id: bytes, encoded: str | None) -> None:
    """It is told in base64 as well."""
    told = account(Evidence(task_id, (), NOW, (), None, (), failed=True))
    json.dumps(told, ensure_ascii=False).encode()
    assert told.get("id_base64") == encoded
    assert not told["whole"]
