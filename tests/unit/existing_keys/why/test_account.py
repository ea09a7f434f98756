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
THERE = where(task_of("archived", score=NOW, ttl_ms=1_000, queue="mail"))


MAIL, OTHER = (0, "mail"), (0, "other")


def answer(
    *found: Whereabouts,
    entries: tuple[Any, ...] = (),
    now: int = NOW,
    notes: tuple[str, ...] = (),
    looked_at: tuple[tuple[int, str], ...] = (MAIL,),
) -> Any:
    """Return an answer, which can be JSON and printed."""
    told = account(Evidence(b"a", found, now, entries, None, notes, looked_at=frozenset(looked_at)))
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
    unasked = answer(entries=(DECIDED, REMOVED), now=0, looked_at=())
    assert unasked["sentences"][0] == "Task a: Redis was not asked."


@pytest.mark.parametrize("looked_at", [(), (OTHER,), ((3, "mail"),)])
def test_a_task_that_nobody_looked_for_where_it_was(looked_at: tuple[tuple[int, str], ...]) -> None:
    """Not asked, another queue, another database: it is not called gone."""
    told = answer(entries=(DECIDED | {"database": 0},), looked_at=looked_at)
    assert "is gone" not in " ".join(told["sentences"])
    assert "Whether it is still there is not known." in told["end"][0]


def test_one_id_in_several_queues() -> None:
    """Each queue has a task of its own: what became of one says nothing of the others."""
    others = (DECIDED | {"queue": "other"}, DECIDED | {"queue": "third", "database": 2}, DECIDED | {"queue": "q"})
    there = where(task_of("archived", score=NOW))
    told = answer(there, entries=(DECIDED, REMOVED, *others), looked_at=(MAIL, OTHER, (2, "third"), (0, "q")))
    mail, other, third = told["end"]
    assert mail.startswith("In queue mail: It is gone: the sweeper of a sidecar removed it at ")
    assert other.startswith("In queue other: It is gone. What was noted last is of ")
    assert third.startswith("In queue third of database 2: It is gone. ")


def test_an_entry_whose_database_is_none() -> None:
    """Whoever has written it: the queue's name has to do."""
    told = answer(entries=(DECIDED | {"database": [1], "queue": "mail"},))
    assert "It is gone." in told["end"][0]


def test_keys_of_a_wrong_type_say_nothing_of_a_task() -> None:
    """They are named, but nothing is known of the task for that."""
    told = answer(where(Task("q", b"a", "", exists=False), wrong=("asynq:{q}:archived",)))
    assert not told["known"]
    assert told["possible"] == list(POSSIBLE)
    assert "asynq:{q}:archived" in " ".join(told["sentences"])


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
