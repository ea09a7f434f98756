"""What `init` counts of ended tasks."""

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys import type_census
from asynq_ttl.existing_keys.type_census import TypeCensus, Volume
from support.scripted_database import NOW, task_of

DAY = 86_400


def counted(*tasks: Task) -> TypeCensus:
    """Return a census of some tasks."""
    census = TypeCensus()
    for task in tasks:
        census.count(task, NOW)
    return census


def test_tasks_are_counted_by_state_and_type() -> None:
    """With their content, and the age of the oldest."""
    tasks = [
        task_of("archived", score=NOW - DAY),
        task_of("archived", score=NOW - 8 * DAY, task_type="mail"),
        task_of("completed", score=NOW, completed_at=NOW - 5),
    ]
    census = counted(*tasks)
    archived = census.states["q", "archived"]
    assert archived.all == Volume(2, tasks[0].size + tasks[1].size)
    assert archived.oldest == 8 * DAY
    assert {age: amount.tasks for age, amount in archived.older.items()} == {"1d": 2, "7d": 1, "30d": 0}
    assert census.types["q", "archived", "mail"].all == Volume(1, tasks[1].size)
    assert set(census.types) == {("q", "archived", "x"), ("q", "archived", "mail"), ("q", "completed", "x")}


def test_what_no_policy_would_remove_is_not_freed() -> None:
    """A held task, an orphan, and one that ended when nobody knows."""
    census = counted(
        task_of("archived", score=NOW - 9 * DAY, held=True),
        task_of("archived", last_failed_at=NOW - 9 * DAY),
        task_of("archived", score=0),
    )
    ended = census.states["q", "archived"]
    assert (ended.all.tasks, ended.older["1d"].tasks, ended.oldest) == (3, 0, 9 * DAY)


def test_what_has_not_ended_is_not_counted() -> None:
    """Nor what cannot be read: its type is not known."""
    assert counted(task_of("pending"), Task("q", b"a", "archived", size=5)).states == {}


def test_types_beyond_a_number_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory is bounded."""
    monkeypatch.setattr(type_census, "MOST_TYPES", 2)
    census = counted(*(task_of("archived", score=5, task_type=name) for name in "abcab"))
    assert (len(census.types), census.more_types) == (2, 1)
    assert census.states["q", "archived"].all.tasks == 5
