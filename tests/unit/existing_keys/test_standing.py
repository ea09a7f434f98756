from dataclasses import replace
from typing import Any

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.standing import LIVE, TERMINAL, is_dated, standing_of
from asynq_ttl.policy.plan import Standing
from asynq_ttl.policy.rules import State
from support.scripted_database import NOW, task_of


def test_a_state_is_either_live_or_terminal() -> None:
    """All that Asynq has."""
    known = {"pending", "active", "scheduled", "retry", "aggregating", "archived", "completed"}
    assert {*LIVE, *TERMINAL} == known
    assert not set(LIVE) & set(TERMINAL)


def test_what_the_policy_has_to_know() -> None:
    """Queue, ID, type, state, score, retention, and whether there is a TTL."""
    task = task_of("completed", score=5000, ttl_ms=7, retention_seconds=100, completed_at=4900)
    assert standing_of(task, State.COMPLETED) == Standing("q", b"a", "x", State.COMPLETED, 4900, 5000, 100, True)


@pytest.mark.parametrize(
    ("state", "score", "message", "since"),
    [
        (State.ARCHIVED, 700, {"last_failed_at": 600}, 700),
        (State.ARCHIVED, None, {"last_failed_at": 600}, 600),
        (State.ARCHIVED, None, {}, 0),
        (State.COMPLETED, 700, {"retention_seconds": 100, "completed_at": 650}, 650),
        (State.COMPLETED, 700, {"retention_seconds": 100}, 600),
        (State.COMPLETED, 50, {"retention_seconds": 100}, 0),
        (State.COMPLETED, None, {"retention_seconds": 100}, 0),
    ],
)
def test_when_a_task_died_or_completed(state: State, score: int | None, message: dict[str, Any], since: int) -> None:
    """An archived one says so by its score, a completed one by its message; 0 where neither says."""
    assert standing_of(task_of(state.value, score=score, **message), state).since == since


def test_a_message_that_cannot_be_read_says_nothing() -> None:
    """Its score may."""
    unreadable = Task("q", b"a", "archived", size=5, score=b"700")
    assert standing_of(unreadable, State.ARCHIVED).since == 700
    assert standing_of(replace(unreadable, score=None), State.ARCHIVED).since == 0


@pytest.mark.parametrize(
    ("state", "score", "completed_at", "dated"),
    [
        (State.ARCHIVED, NOW, 0, True),
        (State.ARCHIVED, NOW + 60, 0, True),
        (State.ARCHIVED, NOW + 61, 0, False),
        (State.ARCHIVED, NOW * 1_000_000_000, 0, False),
        (State.ARCHIVED, 1, NOW, False),
        (State.ARCHIVED, None, NOW, False),
        (State.COMPLETED, NOW, 0, False),
        (State.COMPLETED, 1, NOW, True),
    ],
)
def test_whether_a_task_can_be_dated(state: State, score: int | None, completed_at: int, dated: bool) -> None:
    """As the sweeper does: an archived one by its score, a completed one by its message."""
    assert is_dated(task_of(state.value, score=score, completed_at=completed_at), NOW) is dated


def test_a_completed_task_whose_message_cannot_be_read_cannot_be_dated() -> None:
    """Whatever its score says."""
    assert not is_dated(Task("q", b"a", "completed", size=9), NOW)
