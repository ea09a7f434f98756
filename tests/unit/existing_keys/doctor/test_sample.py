"""What a sample of the tasks tells."""

import pytest

from asynq_ttl.existing_keys.doctor.sample import take_sample
from support.scripted_database import NOW, ScriptedDatabase, task_of


def test_queues_and_types() -> None:
    """Each pair once, whatever the state."""
    tasks = [
        task_of("pending", name="1", queue="a"),
        task_of("archived", name="2", queue="a", score=NOW),
        task_of("pending", name="3", queue="b", task_type="y"),
    ]
    sample = take_sample(ScriptedDatabase(tasks), 100)
    assert (sample.tasks, sample.whole, sample.kinds) == (3, True, {("a", "x"), ("b", "y")})


def test_enough_is_enough() -> None:
    """The page that is begun is read to its end, and it is said that there are more."""
    tasks = [task_of("pending", name=str(number)) for number in range(10)]
    sample = take_sample(ScriptedDatabase(tasks), 3)
    assert sample.tasks == 4
    assert not sample.whole


def test_exactly_all_of_them_is_the_whole() -> None:
    """A limit that is met by the last page cuts nothing short."""
    tasks = [task_of("pending", name=str(number)) for number in range(4)]
    assert take_sample(ScriptedDatabase(tasks), 4).whole


def test_locks_of_tasks_that_are_not_completed() -> None:
    """How long they have to live: an hour here. A completed task's lock is over with it."""
    tasks = [
        task_of("archived", name="1", score=NOW, locked=True, unique_key="asynq:{q}:unique:1"),
        task_of("completed", name="2", score=NOW, task_type="done", locked=True, unique_key="asynq:{q}:unique:2"),
        task_of("pending", name="3", task_type="free"),
    ]
    assert take_sample(ScriptedDatabase(tasks), 100).locks == {("q", "x"): 3_600}


def test_waits_for_a_retry() -> None:
    """The longest of a type; a task that waits for its own time is none."""
    tasks = [
        task_of("retry", name="1", score=NOW + 600),
        task_of("retry", name="2", score=NOW + 60),
        task_of("scheduled", name="3", score=NOW + 9_000, task_type="later"),
    ]
    assert take_sample(ScriptedDatabase(tasks), 100).waits == {("q", "x"): 600}


def test_only_so_many_locks_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few kinds of tasks hold them."""
    monkeypatch.setattr("asynq_ttl.existing_keys.doctor.sample._MOST_LOCKS", 2)
    tasks = [task_of("archived", name=f"{number}", score=NOW, locked=True, unique_key="u") for number in range(5)]
    assert take_sample(ScriptedDatabase(tasks), 100).asked == 2
