"""Which TTLs are taken off. That nothing else changes: `tests/integration/existing_keys/test_persist.py`."""

import pytest

from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.persist import Persist
from asynq_ttl.policy.glob import compile_glob
from support.scripted_database import ScriptedDatabase, task_of

TASKS = [
    task_of("archived", name="timed", score=5, ttl_ms=1000),
    task_of("archived", name="untimed", score=5),
    task_of("pending", name="live", ttl_ms=0),
    task_of("archived", name="elsewhere", queue="p", ttl_ms=1000),
    task_of("archived", name="late", queue="p", ttl_ms=1000, task_type="y"),
]


def persisted(wanted: TaskFilter, cursor: int | None = None) -> list[Change]:
    """Return the changes of a run that begins at a cursor."""
    shown: list[Change] = []
    database = ScriptedDatabase(TASKS)
    position = () if cursor is None else ("scan", cursor)
    Persist(database, wanted, Changer(database, None, apply=False, show=shown.append)).run(position)
    return shown


def test_every_key_with_a_ttl_loses_it() -> None:
    """Whatever state the task is in; all that has to be so is that state, message and TTL are still there."""
    changes = persisted(TaskFilter())
    assert [change.id for change in changes] == ["timed", "live", "elsewhere", "late"]
    assert {(change.action, change.index, change.score, change.timed) for change in changes} == {
        ("persist", "", "", "some")
    }


def test_only_what_is_wanted() -> None:
    """By queue, type and state."""
    assert [change.id for change in persisted(TaskFilter((compile_glob("p"),)))] == ["elsewhere", "late"]
    assert [change.id for change in persisted(TaskFilter(types=(compile_glob("y"),)))] == ["late"]
    assert [change.id for change in persisted(TaskFilter(states=("pending",)))] == ["live"]


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (TaskFilter(), ["timed", "live", "elsewhere", "late", "e1"]),
        (TaskFilter(states=("scheduler_history",)), ["e1"]),
        (TaskFilter(states=("scheduler_history", "pending")), ["live", "e1"]),
        (TaskFilter(states=("pending",)), ["live"]),
        (TaskFilter((compile_glob("p"),)), ["elsewhere", "late"]),
    ],
)
def test_histories_lose_theirs_too(wanted: TaskFilter, ids: list[str]) -> None:
    """Where they are asked for, or nothing is: they have no queue and no type."""
    shown: list[Change] = []
    database = ScriptedDatabase(TASKS)
    database.histories = {b"asynq:scheduler_history:e1": (5, 1000), b"asynq:scheduler_history:e2": (5, -1)}
    changer = Changer(database, None, apply=False, show=shown.append)
    Persist(database, wanted, changer).run()
    assert [change.id for change in shown] == ids
    shown.clear()
    Persist(database, wanted, changer).run(("scheduler_history", 0))
    assert [change.id for change in shown] == ids[-1:] * ("e1" in ids)


def test_an_interrupted_run_goes_on_at_its_cursor() -> None:
    """What comes before it was done."""
    assert [change.id for change in persisted(TaskFilter(), 4)] == ["late"]
