from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.counts import NEVER, Tally
from asynq_ttl.existing_keys.audit.tasks import TaskCounter, content_bytes, must_be_listed
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, Policy, Retention, Rule
from support.scripted_database import NOW, task_of

DAY = 86_400
WEEK_TTL = Retention(Keep.TTL, 7 * DAY)
WEEK = Policy((Rule("week", archived=WEEK_TTL, completed=WEEK_TTL),), grace_seconds=0)
FOREVER = Policy((Rule("keep", archived=Retention(Keep.FOREVER)),))
OWN_DAYS = OWN_ARCHIVE_SECONDS // DAY


def counted(*tasks: Task, policy: Policy = WEEK) -> Tally:
    """Return what was counted of tasks."""
    tally = Tally()
    counter = TaskCounter(tally, policy, NOW)
    for task in tasks:
        counter.count(task)
    return tally


def archived(days: int, **more: Any) -> Task:
    """Return a task that was archived some days ago."""
    return task_of("archived", score=NOW - days * DAY, **more)


@pytest.mark.parametrize(
    ("task", "problems"),
    [
        (task_of("pending"), set()),
        (task_of("scheduled", score=NOW + 5), set()),
        (archived(1, ttl_ms=5000), set()),
        (archived(1), {"untimed"}),
        (task_of("archived", score=NOW * 1_000_000_000), {"untimed", "undated"}),
        (task_of("completed", score=NOW + 5), {"untimed", "undated"}),
        (task_of("completed", score=NOW + 5, completed_at=NOW), {"untimed"}),
        (task_of("archived"), {"untimed", "orphan"}),
        (archived(1, ttl_ms=5000, locked=True), {"archived-lock"}),
        (task_of("completed", score=NOW + 5, ttl_ms=5000, locked=True), set()),
        (task_of("archived", ttl_ms=5000), {"orphan"}),
        (task_of("pending", ttl_ms=5000), {"live-ttl"}),
        (task_of("retry", score=NOW, ttl_ms=0), {"live-ttl"}),
        (task_of("paused"), {"unreadable"}),
        (Task("q", b"a", "archived", size=9), {"unreadable"}),
        (Task("q", b"a", "archived"), {"half"}),
        (Task("q", b"a", ""), {"half"}),
    ],
)
def test_what_is_wrong_with_a_task(task: Task, problems: set[str]) -> None:
    """Each problem is counted once, with the task's queue and ID as an example."""
    tally = counted(task)
    assert tally.problems == dict.fromkeys(problems, 1)
    assert all(tally.examples[code][0].startswith("q: a") for code in problems)


def test_tasks_are_counted_by_queue_and_state() -> None:
    """Those with a TTL, those with a lock, those in no index, and the bytes of messages and results."""
    tally = counted(
        archived(1, ttl_ms=5),
        archived(2, locked=True),
        task_of("archived"),
        task_of("pending", queue="p"),
    )
    group = tally.groups["q", "archived"]
    assert (group.tasks, group.timed, group.locks, group.orphans) == (3, 1, 1, 1)
    assert group.content == sum(content_bytes(task) for task in (archived(1), archived(2), task_of("archived")))
    assert set(tally.groups) == {("q", "archived"), ("p", "pending")}


def test_the_age_is_that_of_the_state() -> None:
    """Since it died, completed, became pending, or failed last; of other tasks nobody knows."""
    for task, age in (
        (archived(3), 3 * DAY),
        (task_of("completed", score=NOW, completed_at=NOW - 50), 50),
        (task_of("pending", pending_since=NOW - 70), 70),
        (task_of("retry", score=NOW, last_failed_at=NOW - 90), 90),
        (task_of("archived"), 0),
        (task_of("scheduled", score=NOW + 5), 0),
        (archived(-1), 0),
    ):
        assert counted(task).group("q", task.state).oldest == age
    assert sum(counted(task_of("archived")).group("q", "archived").ages) == 0


@pytest.mark.parametrize(
    ("task", "policy", "own", "ruled"),
    [
        (archived(2), WEEK, OWN_DAYS - 2, 5),
        (archived(9), WEEK, OWN_DAYS - 9, 0),
        (archived(2), FOREVER, OWN_DAYS - 2, OWN_DAYS - 2),
        (archived(2, ttl_ms=DAY * 1000), WEEK, 1, 1),
        (archived(2, ttl_ms=DAY * 1000), FOREVER, 1, NEVER),
        (task_of("archived", last_failed_at=NOW - 2 * DAY), WEEK, NEVER, 5),
        (task_of("completed", score=NOW + 3 * DAY, completed_at=NOW - 4 * DAY), WEEK, 3, 3),
    ],
    ids=["a rule", "due", "for ever", "a TTL", "a TTL, for ever", "an orphan", "completed"],
)
def test_when_a_task_ends(task: Task, policy: Policy, own: int, ruled: int) -> None:
    """In days from now, under Asynq alone and under the policy."""
    group = counted(task, policy=policy).group("q", task.state)
    assert (list(group.own.by_day), list(group.policy.by_day)) == ([own], [ruled])


def test_only_what_came_in_the_last_days_says_how_long_tasks_live() -> None:
    """Older tasks are those that are left of many; they would make lives look longer."""
    group = counted(archived(2), archived(20)).group("q", "archived")
    assert {own: list(lives.by_day) for own, lives in group.lives.items()} == {
        round(OWN_DAYS * DAY, -4): [round(7 * DAY, -3)]
    }
    assert sum(count for lives in group.lives.values() for _, count, _ in lives.items()) == 1


def test_what_is_overdue_says_nothing_of_what_arrives() -> None:
    """How much of it there is depends on when it is removed."""
    overdue = task_of("completed", score=NOW - 5, completed_at=NOW - 35)
    assert counted(overdue).group("q", "completed").lives == {}


def test_a_result_is_content() -> None:
    """Whether it was read, or only its size."""
    assert content_bytes(Task("q", b"a", "completed", size=10, result=5)) == 15
    assert content_bytes(Task("q", b"a", "completed", size=10, result=b"12345")) == 15


@pytest.mark.parametrize(
    ("task", "must"),
    [
        (task_of("pending"), True),
        (task_of("active"), True),
        (task_of("scheduled"), True),
        (task_of("active", score=NOW), False),
        (task_of("archived"), False),
        (task_of("paused"), False),
        (Task("q", b"a", "pending"), False),
        (Task("q", b"a", "pending", size=9), False),
    ],
)
def test_what_must_be_in_a_list(task: Task, *, must: bool) -> None:
    """A live task that no sorted set has; of what is no task that can be read, nothing is said."""
    assert must_be_listed(task) is must


@pytest.mark.parametrize(
    ("retention", "life"),
    [
        (Retention(Keep.TTL, 30), 30),
        (Retention(Keep.DELETE), 0),
        (Retention(Keep.FOREVER), NEVER),
        (Retention(Keep.OWN), 3600),
    ],
)
def test_under_the_policy_tasks_live_as_long_as_its_retention(retention: Retention, life: int) -> None:
    """Not as long as those have lived that are there without it, and without the grace of their keys."""
    policy = Policy((Rule("r", completed=retention),))
    task = task_of("completed", score=NOW + 3000, completed_at=NOW - 600, retention_seconds=3600)
    group = counted(task, policy=policy).group("q", "completed")
    assert [list(lives.by_day) for lives in group.lives.values()] == [[life]]
