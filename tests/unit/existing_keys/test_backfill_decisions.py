from typing import Any

import pytest

from asynq_ttl.asynq.task import Entry, Task
from asynq_ttl.existing_keys.backfill_decisions import (
    BackfillOptions,
    Decider,
    Ghosts,
    Orphans,
    ghost_reason,
    removes,
)
from asynq_ttl.existing_keys.changes import Change
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule, State
from support.scripted_database import NOW, task_of

HOUR, DAY = 3600, 86_400
WEEK = Policy((Rule("week", archived=Retention(Keep.TTL, 7 * DAY)),), grace_seconds=60)
FOREVER = Policy((Rule("keep", archived=Retention(Keep.FOREVER), completed=Retention(Keep.FOREVER)),))
CAPPED = Policy((Rule("cap", archived=Retention(Keep.TTL, 7 * DAY), archived_max=5),))
NO_RULE = Policy((Rule("elsewhere", queues=(compile_glob("p"),), archived=Retention(Keep.TTL, 1)),))
GONE = Task("q", b"a", "", exists=False, ttl_ms=-2)
NO_MESSAGE = Task("q", b"a", "archived")
UNREADABLE = Task("q", b"a", "archived", size=9)


def decider(policy: Policy = WEEK, **options: Any) -> Decider:
    """Return what decides for a run with these options."""
    return Decider(policy, BackfillOptions(**options), NOW)


def entry(task: Task, score: int = NOW - DAY) -> Entry:
    """Return an entry of a task."""
    return Entry(b"%d" % score, task)


def told(change: Change | None) -> tuple[str, str, str, str, str] | None:
    """Return what a change does, and on which conditions."""
    return None if change is None else (change.action, change.rule, change.state, change.score, change.timed)


def test_a_task_without_a_ttl_gets_the_one_of_its_rule() -> None:
    """Counted from when it died, with the policy's grace; if it still has none then."""
    change = decider().entry(entry(task_of("archived", score=NOW - DAY)), State.ARCHIVED)
    assert change is not None
    assert change.expires_at_ms == (NOW + 6 * DAY + 60) * 1000
    assert told(change) == ("ttl", "week", "archived", str(NOW - DAY), "none")


def test_counting_from_now() -> None:
    """The time begins when the run begins, so what would be due long ago is not removed."""
    old = entry(task_of("archived", score=NOW - 30 * DAY), NOW - 30 * DAY)
    removed, kept = decider().entry(old, State.ARCHIVED), decider(from_now=True).entry(old, State.ARCHIVED)
    assert removed is not None
    assert kept is not None
    assert removed.action == "remove"
    assert kept.expires_at_ms == (NOW + 7 * DAY + 60) * 1000


@pytest.mark.parametrize(
    ("policy", "task"),
    [
        (WEEK, task_of("archived", ttl_ms=5)),
        (WEEK, UNREADABLE),
        (NO_RULE, task_of("archived")),
        (Policy((Rule("done", completed=Retention(Keep.TTL, 1)),)), task_of("archived")),
    ],
    ids=["it has a TTL", "its message cannot be read", "no rule", "no rule about its state"],
)
def test_what_is_not_changed(policy: Policy, task: Task) -> None:
    """Its entry is no ghost, and the policy wants nothing of it."""
    assert decider(policy).entry(entry(task), State.ARCHIVED) is None


def test_what_is_not_asked_for_is_not_changed() -> None:
    """By type and by state."""
    due = entry(task_of("archived"))
    assert decider(filter=TaskFilter(types=(compile_glob("y"),))).entry(due, State.ARCHIVED) is None
    assert decider(filter=TaskFilter(types=(compile_glob("x"),))).entry(due, State.ARCHIVED) is not None


@pytest.mark.parametrize(
    ("task", "reason", "act"),
    [
        (GONE, "ghost: there is no such task", "drop"),
        (task_of("pending"), "ghost: the task is pending", "drop"),
        (Task("q", b"a", "", size=9), "ghost: the task is in no state", "drop"),
        (NO_MESSAGE, "ghost: the task has no message", "remove"),
        (task_of("archived"), "", ""),
    ],
)
def test_ghosts_are_dropped_where_that_is_asked_for(task: Task, reason: str, act: str) -> None:
    """Only the entry goes, unless there is a hash in that very state, without a message: that goes as well."""
    assert ghost_reason(entry(task), State.ARCHIVED) == reason
    if reason:
        assert decider().entry(entry(task), State.ARCHIVED) is None
        change = decider(ghosts=Ghosts.DROP).entry(entry(task), State.ARCHIVED)
        assert change is not None
        assert (change.action, change.reason, change.index, change.timed) == (act, reason, "archived", "any")


def test_no_ghost_is_dropped_where_types_are_asked_for() -> None:
    """Nobody knows the type of a task that is gone."""
    asked = decider(ghosts=Ghosts.DROP, filter=TaskFilter(types=(compile_glob("*"),)))
    assert asked.entry(entry(GONE), State.ARCHIVED) is None


def test_what_is_over_max_is_trimmed() -> None:
    """By the rule that has the `max`, whether it has a TTL or none."""
    change = decider(CAPPED).trim(entry(task_of("archived", ttl_ms=5)), State.ARCHIVED)
    assert told(change) == ("remove", "cap", "archived", str(NOW - DAY), "any")
    assert change is not None
    assert change.reason == "over max 5"


@pytest.mark.parametrize("task", [GONE, UNREADABLE, task_of("pending")])
def test_what_is_no_task_of_the_archive_is_not_trimmed(task: Task) -> None:
    """Ghosts are for `--ghosts`; of a message that cannot be read nobody knows whether it is to be kept."""
    assert decider(CAPPED).trim(entry(task), State.ARCHIVED) is None


def test_what_is_kept_for_ever_is_neither_trimmed_nor_deleted() -> None:
    """And a task that no rule decides about is not trimmed."""
    both = Policy((Rule("keep", types=(compile_glob("x"),), archived=Retention(Keep.FOREVER)), *CAPPED.rules))
    assert decider(both).trim(entry(task_of("archived")), State.ARCHIVED) is None
    assert decider(both).trim(entry(task_of("archived", task_type="y")), State.ARCHIVED) is not None
    assert decider(NO_RULE).trim(entry(task_of("archived")), State.ARCHIVED) is None
    assert decider(FOREVER, orphans=Orphans.DELETE).orphan(task_of("archived")) is None


def test_an_orphan_gets_a_ttl_or_is_deleted() -> None:
    """Its score is `-`: it goes only if it is still in no index."""
    orphan = task_of("archived", last_failed_at=NOW - DAY)
    assert told(decider(orphans=Orphans.TTL).orphan(orphan)) == ("ttl", "week", "archived", "-", "none")
    assert told(decider(orphans=Orphans.DELETE).orphan(orphan)) == ("remove", "week", "archived", "-", "any")
    assert told(decider(NO_RULE, orphans=Orphans.DELETE).orphan(orphan)) == (
        "remove",
        "",
        "archived",
        "-",
        "any",
    )
    assert decider(orphans=Orphans.DELETE).orphan(UNREADABLE) is None


def test_a_hash_without_a_message_is_deleted_only_with_the_orphans() -> None:
    """One in a state if it is still in no index; one in none has no index it could be in."""
    assert decider(orphans=Orphans.TTL).half(NO_MESSAGE) is None
    assert decider(orphans=Orphans.DELETE, filter=TaskFilter(types=(compile_glob("*"),))).half(NO_MESSAGE) is None
    assert told(decider(orphans=Orphans.DELETE).half(NO_MESSAGE)) == ("remove", "", "archived", "-", "any")
    assert told(decider(orphans=Orphans.DELETE).half(Task("q", b"a", ""))) == ("remove", "", "", "", "any")


def test_which_changes_take_an_entry_out() -> None:
    """Those that remove a task or drop its entry."""
    ghost = decider(ghosts=Ghosts.DROP).entry(entry(GONE), State.ARCHIVED)
    timed = decider().entry(entry(task_of("archived")), State.ARCHIVED)
    assert [removes(change) for change in (ghost, timed, None)] == [True, False, False]
