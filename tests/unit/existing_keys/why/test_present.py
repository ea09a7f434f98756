"""What is told of a task as it stands."""

import json
from dataclasses import replace
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.why.find import ListPlace, UniquenessLock, Whereabouts
from asynq_ttl.existing_keys.why.present import facts, sentences
from support.scripted_database import NOW, task_of
from support.whereabouts import where


def told(found: Whereabouts, *, error: bool = True) -> str:
    """Return the sentences as one text."""
    return " ".join(sentences(found, NOW, error=error))


def test_an_archived_task() -> None:
    """Since when, its TTL, its type, its error; as JSON the same."""
    task = task_of("archived", score=NOW - 3_600, ttl_ms=7_200_000, task_type="mail:send")
    assert task.record is not None
    task = replace(task, record=task.record._replace(retried=3, retry=5, error="no route", last_failed_at=NOW - 3_600))
    text = told(where(task))
    assert text.startswith("Task a is archived, in queue q, since 2023-11-14T21:13:20Z (1h ago).")
    assert "type is mail:send" in text
    assert 'retried 3 times of 5. It failed last at 2023-11-14T21:13:20Z (1h ago), with the error "no route".' in text
    assert "stands in archived, where it belongs" in text
    assert "Redis removes it at 2023-11-15T00:13:20Z (in 2h) at the latest" in text
    assert "no route" not in told(where(task), error=False)
    found = facts(where(task), NOW, error=True)
    json.dumps(found)
    assert (found["state"], found["since"], found["ttl_seconds"]) == ("archived", "2023-11-14T21:13:20Z", 7_200)
    assert (found["key_expires"], found["error"]) == ("2023-11-15T00:13:20Z", "no route")
    assert "error" not in facts(where(task), NOW, error=False)


CASES: dict[str, tuple[Whereabouts, str]] = {
    "completed": (
        where(task_of("completed", score=NOW + 60, completed_at=NOW - 60)),
        "completed, in queue q, since 2023-11-14T22:12:20Z",
    ),
    "its Retention": (where(task_of("completed", score=NOW, retention_seconds=90)), "Retention 1m30s"),
    "pending": (
        where(task_of("pending", pending_since=NOW - 5), pending=ListPlace(1, 1, 1)),
        "since 2023-11-14T22:13:15Z (5s ago)",
    ),
    "far back in pending": (
        where(task_of("pending"), pending=ListPlace(0, 20_000, 100)),
        "not among the 100 of 20,000",
    ),
    "in no list": (where(task_of("pending"), pending=ListPlace(0, 3, 3)), "in no index or list: Asynq does not see it"),
    "retry": (
        where(task_of("retry", score=NOW, last_failed_at=NOW - 9)),
        "is retry, in queue q, since 2023-11-14T22:13:11Z",
    ),
    "active": (
        where(task_of("active", score=NOW), active=ListPlace(1, 1, 1)),
        "stands in lease and active, where it belongs",
    ),
    "aggregating": (where(replace(task_of("aggregating", score=1), score=b"1")), "in its group"),
    "unknown state": (where(task_of("nobody knows")), 'is "nobody knows", in queue q; since when is not written'),
    "no state": (where(task_of("")), "is in no state"),
    "orphan": (where(task_of("archived")), "in no index or list: Asynq does not see it"),
    "ghost beside": (
        where(task_of("pending"), "archived", pending=ListPlace(1, 1, 1)),
        "stands in archived too: a ghost",
    ),
    "no TTL": (where(task_of("archived", score=NOW)), "Its key has no TTL"),
    "live with a TTL": (where(task_of("retry", score=NOW, ttl_ms=1)), "`asynq-ttl persist --live` takes it off"),
    "its own lock": (
        where(task_of("pending", locked=True), lock=UniquenessLock("k", "a", 90_000)),
        "k is held by it, for another 1m30s",
    ),
    "another's lock": (
        where(task_of("pending"), lock=UniquenessLock("k", "b c", -1)),
        'by another task, "b c", for ever',
    ),
    "a free lock": (where(task_of("pending"), lock=UniquenessLock("k", "", -2)), "k is free"),
    "another database": (where(task_of("pending"), database=3), "in queue q of database 3"),
    "unreadable": (where(replace(task_of("archived"), record=None)), "cannot be read"),
    "half a task": (where(replace(task_of("archived"), record=None, size=0)), "It has no message."),
    "wrong keys": (where(task_of("archived"), wrong=("asynq:{q}:archived",)), "Of another type than Asynq has there"),
    "a ghost alone": (
        where(Task("q", b"a", "", exists=False), "archived", "retry"),
        "no hash, but its ID stands in archived and retry: a ghost",
    ),
    "no hash": (
        where(Task("q", b"a", "", exists=False), wrong=("k",)),
        "no hash that can be looked at. Of another type",
    ),
    "an odd ID": (where(task_of("pending", name="a\n\udcff")), 'Task "a\\n\\udcff" is pending'),
}


@pytest.mark.parametrize(("found", "said"), CASES.values(), ids=CASES)
def test_what_is_said(found: Whereabouts, said: str) -> None:
    """Each of what can be odd about a task, in one sentence; JSON can always be made of it."""
    assert said in told(found)
    json.dumps(facts(found, NOW, error=True))


def test_nothing_is_said_of_an_index_that_is_none() -> None:
    """Where its key is of another type, nobody knows whether the ID would stand there."""
    text: Any = told(where(task_of("archived"), wrong=("asynq:{q}:archived",)))
    assert "in no index" not in text
