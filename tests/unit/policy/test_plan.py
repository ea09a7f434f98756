from dataclasses import replace

import pytest

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.plan import Act, Plan, Standing, plan, plan_history
from asynq_ttl.policy.rules import (
    DEFAULT_POLICY,
    FOREVER_RETENTION,
    FOREVER_SCORE,
    OWN_ARCHIVE_SECONDS,
    UNMATCHED,
    Keep,
    Policy,
    Retention,
    Rule,
    State,
)
from asynq_ttl.times import moment

NOW = 1_800_000_000
DAY = 86_400
DEAD = Standing("q", b"id", "x", State.ARCHIVED, NOW - DAY, NOW - DAY, 0, timed=False)
DONE = Standing("q", b"id", "x", State.COMPLETED, NOW - 100, NOW - 100 + 600, 600, timed=False)


def policy(
    archived: Retention | None = None, completed: Retention | None = None, *, grace: int = 60, rollout: int = 10_000
) -> Policy:
    """Return a policy of one rule."""
    rule = Rule("r", archived=archived, completed=completed)
    return Policy((rule,), grace_seconds=grace, rollout=rollout)


def test_an_archived_task_is_kept_from_its_death() -> None:
    """Its score stays, its key expires grace after its retention."""
    week = policy(Retention(Keep.TTL, 7 * DAY), grace=10)
    assert plan(week, DEAD, NOW) == Plan(Act.TTL, "r", f"due at {moment(NOW + 6 * DAY)}", NOW + 6 * DAY + 10)


def test_a_completed_task_is_kept_from_its_completion() -> None:
    """Its score becomes the time at which it is due, unless it is that already."""
    hour = policy(completed=Retention(Keep.TTL, 3600))
    assert plan(hour, DONE, NOW) == Plan(Act.TTL, "r", f"due at {moment(NOW + 3500)}", NOW + 3560, NOW + 3500)
    own = policy(completed=Retention(Keep.OWN))
    assert plan(own, DONE, NOW) == Plan(Act.TTL, "r", f"due at {moment(NOW + 500)}", NOW + 560)


@pytest.mark.parametrize("timed", [True, False])
def test_what_is_kept_for_ever_loses_its_ttl(*, timed: bool) -> None:
    """And a completed task gets the score that no clock reaches."""
    forever = policy(Retention(Keep.FOREVER), Retention(Keep.FOREVER))
    dead, done = replace(DEAD, timed=timed), replace(DONE, timed=timed)
    assert plan(forever, dead, NOW) == (Plan(Act.PERSIST, "r", "kept for ever") if timed else None)
    assert plan(forever, done, NOW) == Plan(Act.PERSIST, "r", "kept for ever", score=FOREVER_SCORE)
    assert plan(forever, replace(DONE, score=FOREVER_SCORE), NOW) is None


def test_what_done_keeps_for_ever_stays() -> None:
    """The rule for completed tasks is not its own; its Retention, the longest there is, says so."""
    kept = replace(DONE, retention_seconds=FOREVER_RETENTION, score=FOREVER_SCORE)
    for retention in (Retention(Keep.TTL, 5), Retention(Keep.OWN), Retention(Keep.DELETE)):
        assert plan(policy(completed=retention), kept, NOW) is None


@pytest.mark.parametrize("task", [DEAD, DONE])
def test_a_task_that_has_a_ttl_keeps_it(task: Standing) -> None:
    """Whatever the policy says, but for ever."""
    for retention in (Retention(Keep.TTL, 5), Retention(Keep.OWN), Retention(Keep.DELETE)):
        assert plan(policy(retention, retention), replace(task, timed=True), NOW) is None


def test_what_is_due_or_not_kept_is_removed() -> None:
    """At the very second in which its retention is over, and not before."""
    exact = policy(Retention(Keep.TTL, DAY))
    assert plan(exact, DEAD, NOW) == Plan(Act.REMOVE, "r", f"due since {moment(NOW)}")
    assert plan(exact, DEAD, NOW - 1) == Plan(Act.TTL, "r", f"due at {moment(NOW)}", NOW + 60)
    assert plan(policy(Retention(Keep.DELETE)), DEAD, NOW) == Plan(Act.REMOVE, "r", "not kept at all")


def test_from_now_everything_is_kept_a_while_longer() -> None:
    """The scores say so too."""
    week = policy(Retention(Keep.TTL, 7 * DAY), Retention(Keep.TTL, 60))
    dead = plan(week, DEAD, NOW, from_now=True)
    assert dead == Plan(Act.TTL, "r", f"due at {moment(NOW + 7 * DAY)}", NOW + 7 * DAY + 60, NOW)
    assert plan(week, DONE, NOW, from_now=True) == Plan(Act.TTL, "r", f"due at {moment(NOW + 60)}", NOW + 120, NOW + 60)


def test_an_orphan_has_no_score_to_change() -> None:
    """One whose time nobody knows is kept from now."""
    week = policy(Retention(Keep.TTL, 7 * DAY))
    assert plan(week, replace(DEAD, score=None, since=0), NOW) == Plan(
        Act.TTL, "r", f"due at {moment(NOW + 7 * DAY)}", NOW + 7 * DAY + 60
    )


def test_no_verdict_no_plan() -> None:
    """Without a rule, or outside the rollout, nothing is done; but Asynq's own time holds where its trims are off."""
    assert plan(policy(completed=Retention(Keep.OWN)), DEAD, NOW) is None
    assert plan(policy(Retention(Keep.DELETE), rollout=0), DEAD, NOW) is None
    other = Rule("long", types=(compile_glob("other"),), archived=Retention(Keep.TTL, 100 * DAY))
    planned = plan(Policy((other,)), DEAD, NOW)
    assert planned is not None
    assert (planned.rule, planned.expires_at) == (UNMATCHED, NOW - DAY + OWN_ARCHIVE_SECONDS + 60)
    assert plan(DEFAULT_POLICY, DEAD, NOW) is not None


@pytest.mark.parametrize("score", [2**53, 2**50])
def test_a_score_that_no_clock_has_is_left_alone(score: int) -> None:
    """Redis could not hold the time at which such a task is due."""
    assert plan(policy(Retention(Keep.TTL, 60)), replace(DEAD, since=score, score=score), NOW) is None


@pytest.mark.parametrize("seconds", [0, -5, 2**60])
def test_what_no_calendar_has(seconds: int) -> None:
    """Is no time."""
    assert moment(seconds) is None


@pytest.mark.parametrize(
    ("newest", "from_now", "due"),
    [
        (NOW - DAY, False, NOW + 6 * DAY),
        (NOW - DAY, True, NOW + 7 * DAY),
        (0, False, NOW + 7 * DAY),
        (NOW + DAY, False, NOW + 7 * DAY),
    ],
)
def test_a_history_is_kept_from_when_was_added_to_it(newest: int, from_now: bool, due: int) -> None:
    """From now on where nobody knows, by whatever clock, or where that is asked for. There is no grace."""
    week = Policy((), scheduler_history=7 * DAY)
    expected = Plan(Act.TTL, "scheduler_history", f"due at {moment(due)}", due)
    assert plan_history(week, b"e", newest, NOW, from_now=from_now) == expected


def test_a_history_whose_time_is_over_goes() -> None:
    """As it would have gone by itself; nothing happens to one that the policy says nothing about."""
    week = Policy((), scheduler_history=7 * DAY)
    expected = Plan(Act.REMOVE, "scheduler_history", f"due since {moment(NOW)}")
    assert plan_history(week, b"e", NOW - 7 * DAY, NOW) == expected
    assert plan_history(Policy((), scheduler_history=7 * DAY, rollout=0), b"e", 5, NOW) is None
    assert plan_history(DEFAULT_POLICY, b"e", 5, NOW) is None
