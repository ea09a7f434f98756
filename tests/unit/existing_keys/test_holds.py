"""What is asked of the scripts, and what is said. What they do: `tests/integration/existing_keys/test_holds.py`."""

from typing import Any

import pytest

from asynq_ttl.existing_keys.holds import Told, held_entries, hold, release
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule
from support.scripted_database import NOW, ScriptedDatabase, task_of

WEEK = Policy((Rule("week", archived=Retention(Keep.TTL, 7 * 86_400)),))
DELETE = Policy((Rule("gone", archived=Retention(Keep.DELETE)),))
FOREVER = Policy((Rule("ever", archived=Retention(Keep.FOREVER)),))


class Asked(ScriptedDatabase):
    """A database that answers to the two scripts as it is told."""

    answers: list[Any]
    asked: list[tuple[Any, ...]]

    def run(self, name: str, key: bytes, *arguments: bytes | str | int) -> Any:
        """Take down what is asked."""
        if name not in {"existing_keys/hold_tasks", "existing_keys/release_tasks"}:
            return super().run(name, key, *arguments)
        self.asked.append(arguments[1:])
        return self.answers.pop(0)


def asked(*tasks: Any, answers: list[Any]) -> Asked:
    """Return a database with tasks."""
    database = Asked(tasks)
    database.answers, database.asked = answers, []
    return database


@pytest.mark.parametrize(
    ("answer", "text", "done"),
    [
        (b"held", "held", True),
        (b"already", "is held already", True),
        (b"missing", "there is no such task in this queue", False),
        (b"foreign", "not held: something else than a task, or than an index, is at its key", False),
        (b"state active", "not held: it is active, and only an archived or completed task can be held", False),
        (b"state ", "not held: it is in no state, and only an archived or completed task can be held", False),
        (
            b"stray archived",
            "not held: it is archived, but no index names it (an orphan: see `backfill --orphans`)",
            False,
        ),
    ],
)
def test_what_became_of_a_task_is_said(answer: bytes, text: str, done: bool) -> None:
    """In one line."""
    assert list(hold(asked(answers=[[answer]]), "q", [b"a"])) == [Told(b"a", text, done)]


def test_many_tasks_go_in_pages() -> None:
    """And each is asked for once."""
    ids = [b"%d" % number for number in range(120)]
    database = asked(answers=[[b"held"] * 50, [b"held"] * 50, [b"held"] * 20])
    assert [told.id for told in hold(database, "q", [*ids, *ids])] == ids
    assert [len(page) for page in database.asked] == [50, 50, 20]


@pytest.mark.parametrize(
    ("policy", "ttl_ms", "expires", "score", "text"),
    [
        (None, -1, "-1", b"5", "released; it has no TTL"),
        (None, 5000, str(NOW * 1000 + 5000), b"5", "released; its key expires at 2023-11-14T22:13:25Z"),
        (FOREVER, 5000, "-1", b"5", "released; it has no TTL"),
        (DELETE, 5000, str(NOW * 1000), b"5", "released; its key expires at 2023-11-14T22:13:20Z"),
        (WEEK, -1, str(NOW * 1000), b"5", "released; its key expires at 2023-11-14T22:13:20Z"),
        (Policy(()), 5000, str(NOW * 1000 + 5000), b"5", "released; its key expires at 2023-11-14T22:13:25Z"),
    ],
)
def test_a_release_gives_what_a_policy_says_or_what_it_had(
    policy: Policy | None, ttl_ms: int, expires: str, score: bytes, text: str
) -> None:
    """The script gets state and hold, to see that nothing has changed."""
    task = task_of("archived", name="a", score=5, ttl_ms=ttl_ms, held=True)
    database = asked(task, answers=[[1]])
    assert list(release(database, "q", [b"a"], policy)) == [Told(b"a", text, done=True)]
    assert task.hold is not None
    assert database.asked == [(60_000, b"a", "archived", task.hold.value, expires, score)]


def test_a_completed_task_gets_the_score_of_its_policy() -> None:
    """Asynq's janitor goes by that."""
    policy = Policy((Rule("hour", completed=Retention(Keep.TTL, 3600)),))
    task = task_of("completed", name="a", score=NOW, completed_at=NOW, held=True)
    database = asked(task, answers=[[1]])
    assert next(iter(release(database, "q", [b"a"], policy))).done
    assert database.asked[0][-2:] == (str((NOW + 3660) * 1000), b"%d" % (NOW + 3600))


def test_what_cannot_be_released_is_said() -> None:
    """It is not asked for, but for what changed at the last moment."""
    database = asked(
        task_of("archived", name="held", score=5, held=True),
        task_of("archived", name="over", score=5, held=True),
        task_of("archived", name="free", score=5),
        answers=[[0, 2]],
    )
    assert list(release(database, "q", [b"held", b"over", b"free", b"none"])) == [
        Told(b"held", "not released: it was changed at this moment; try again", done=False),
        Told(b"over", "released; its time is over, so it goes within a minute", done=True),
        Told(b"free", "is not held", done=False),
        Told(b"none", "there is no such task in this queue", done=False),
    ]
    assert list(release(database, "q", [b"free"])) == [Told(b"free", "is not held", done=False)]
    assert len(database.asked) == 1


def test_held_entries_are_counted() -> None:
    """By their score."""
    database = asked(task_of("archived", score=5), task_of("archived", name="b", held=True, score=5), answers=[])
    assert held_entries(database, Place("q", "archived", 2)) == 1
