"""The way a backfill takes through queues, indexes and keyspace, and what it counts.

What is done to a task: `test_backfill_decisions.py`. Runs against real servers: `tests/integration/existing_keys/`.
"""

from typing import Any

import pytest

from asynq_ttl.asynq.keys import index_key
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.backfill import Backfill
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Ghosts, Orphans
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule
from support.scripted_database import NOW, ScriptedDatabase, task_of

DAY = 86_400
KEPT = Retention(Keep.TTL, 7 * DAY)
WEEK = Policy((Rule("week", archived=KEPT, completed=KEPT),))


class Run:
    """One dry run over a database."""

    def __init__(self, database: ScriptedDatabase, policy: Policy = WEEK, **options: Any) -> None:
        self.shown: list[Change] = []
        self.steps: list[int] = []
        changer = Changer(database, None, apply=False, show=self.shown.append)
        self.walk = Backfill(database, policy, BackfillOptions(**options), changer, now=NOW, advance=self.steps.append)

    def ids(self, queues: list[str], position: tuple[str | int, ...] = ()) -> list[str]:
        """Return the IDs of the tasks that are changed, in order."""
        self.walk.run(queues, position)
        return [change.id for change in self.shown]


def archived(name: str, days: int, **more: Any) -> Task:
    """Return a task that was archived some days ago."""
    return task_of("archived", name=name, score=NOW - days * DAY, **more)


TASKS = [
    archived("young", 1),
    archived("old", 3),
    task_of("completed", name="done", score=NOW, completed_at=NOW - DAY),
    archived("other", 2, queue="p"),
    task_of("archived", name="orphan", last_failed_at=NOW - DAY),
]


def test_queue_by_queue_the_archive_first_the_oldest_first() -> None:
    """Orphans come last, and only where they are asked for."""
    assert Run(ScriptedDatabase(TASKS)).ids(["q", "p"]) == ["old", "young", "done", "other"]
    assert Run(ScriptedDatabase(TASKS), orphans=Orphans.TTL).ids(["p"])[-1] == "orphan"


def test_only_queues_and_states_that_are_asked_for() -> None:
    """Of orphans as well."""
    of_p = TaskFilter((compile_glob("p"),))
    assert Run(ScriptedDatabase(TASKS), filter=of_p, orphans=Orphans.TTL).ids(["q", "p"]) == ["other"]
    done = TaskFilter(states=("completed",))
    assert Run(ScriptedDatabase(TASKS), filter=done, orphans=Orphans.TTL).ids(["q", "p"]) == ["done"]


def test_a_run_goes_on_where_it_was_interrupted() -> None:
    """After an entry of an index, or at a cursor of the keyspace."""
    after_old = ("index", "q", "archived", str(NOW - 3 * DAY), "old")
    assert Run(ScriptedDatabase(TASKS)).ids(["q", "p"], after_old) == ["young", "done", "other"]
    assert Run(ScriptedDatabase(TASKS), orphans=Orphans.TTL).ids(["q", "p"], ("scan", 4)) == ["orphan"]


def test_a_queue_that_is_gone_since_the_interruption() -> None:
    """The walk through the indexes begins again: what was done needs no more."""
    gone = ("index", "gone", "archived", "5", "a")
    assert Run(ScriptedDatabase(TASKS)).ids(["q", "p"], gone) == ["old", "young", "done", "other"]


def test_the_oldest_over_max_are_trimmed() -> None:
    """As many as there are over it, once what is due is gone; a task that is kept for ever is passed over."""
    tasks = [archived("due", 9), archived("kept", 5, task_type="k"), *(archived(f"{days}", days) for days in (4, 3, 2))]
    rules = (
        Rule("keep", types=(compile_glob("k"),), archived=Retention(Keep.FOREVER)),
        Rule("cap", archived=KEPT, archived_max=2),
    )
    run = Run(ScriptedDatabase(tasks), Policy(rules))
    run.walk.run(["q"])
    removed = {change.id: change.reason for change in run.shown if change.action == "remove"}
    assert list(removed) == ["due", "4", "3"]
    assert removed["4"] == removed["3"] == "over max 2"
    assert [change.id for change in run.shown if change.action == "ttl"] == ["2"]


def test_nothing_is_trimmed_where_what_is_due_makes_room() -> None:
    """Nor where only some types are concerned, for then the count says nothing."""
    policy = Policy((Rule("cap", archived=KEPT, archived_max=2),))
    tasks = [archived("due", 9), archived("a", 2), archived("b", 1)]
    run = Run(ScriptedDatabase(tasks), policy)
    assert run.ids(["q"]) == ["due", "a", "b"]
    assert [change.action for change in run.shown] == ["remove", "ttl", "ttl"]
    some = Run(ScriptedDatabase([*tasks, archived("c", 3)]), policy, filter=TaskFilter(types=(compile_glob("x"),)))
    some.walk.run(["q"])
    assert [change.action for change in some.shown] == ["remove", "ttl", "ttl", "ttl"]


def test_what_was_met_is_counted() -> None:
    """Ghosts are no tasks; a hash without a message is no orphan."""
    database = ScriptedDatabase(
        [
            archived("untimed", 1),
            archived("timed", 1, ttl_ms=5),
            archived("held", 1, held=True),
            Task("q", b"unreadable", "archived", size=9, score=b"%d" % NOW),
            Task("q", b"half", "archived"),
            task_of("archived", name="orphan"),
            task_of("pending", name="live"),
        ]
    )
    database.indexes[index_key("q", "archived")].insert(-1, (NOW, b"zombie"))
    run = Run(database, ghosts=Ghosts.DROP, orphans=Orphans.DELETE)
    assert run.ids(["q"]) == ["untimed", "zombie", "half", "orphan"]
    assert run.walk.seen == {"tasks": 4, "timed": 1, "held": 1, "unreadable": 1, "ghosts": 1, "halves": 1, "orphans": 1}
    assert sum(run.steps) == 5 + 7


def test_how_much_there_is_to_read() -> None:
    """The entries of the indexes that are concerned; the keyspace only for orphans."""
    assert Run(ScriptedDatabase(TASKS)).walk.size(["q", "p"]) == 4
    assert Run(ScriptedDatabase(TASKS), orphans=Orphans.TTL, filter=TaskFilter((compile_glob("p"),))).walk.size(
        ["q", "p"]
    ) == 1 + len(TASKS)


HISTORIES = {
    b"asynq:scheduler_history:old": (NOW - 8 * DAY, -1),
    b"asynq:scheduler_history:young": (NOW - DAY, -1),
    b"asynq:scheduler_history:timed": (NOW - DAY, 5),
}
KEEPING = Policy(WEEK.rules, scheduler_history=7 * DAY)


@pytest.mark.parametrize(
    ("policy", "wanted", "found"),
    [
        (KEEPING, TaskFilter(), [("remove", None), ("ttl", (NOW + 6 * DAY) * 1000)]),
        (KEEPING, TaskFilter(states=("scheduler_history",)), [("remove", None), ("ttl", (NOW + 6 * DAY) * 1000)]),
        (KEEPING, TaskFilter(states=("archived",)), []),
        (KEEPING, TaskFilter((compile_glob("q"),)), []),
        (WEEK, TaskFilter(), []),
    ],
)
def test_histories_get_what_the_policy_says(policy: Policy, wanted: TaskFilter, found: list[tuple[str, int]]) -> None:
    """Those without a TTL, counted from when was added to them last; not where only some tasks are asked for."""
    database = ScriptedDatabase()
    database.histories = HISTORIES
    run = Run(database, policy, filter=wanted)
    run.ids(["q"])
    assert [(change.action, change.expires_at_ms) for change in run.shown] == found
    assert (run.walk.seen["histories"], run.walk.seen["timed_histories"]) == ((3, 1) if found else (0, 0))


def test_a_run_goes_on_in_the_histories() -> None:
    """What comes before them is done, orphans too."""
    database = ScriptedDatabase(TASKS)
    database.histories = HISTORIES
    found = Run(database, KEEPING, orphans=Orphans.TTL).ids(["q", "p"], ("scheduler_history", 0))
    assert found == ["old", "young"]
