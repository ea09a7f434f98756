"""Which rule decides now, and what happens next; the rules are those that `Policy.decide` names."""

from dataclasses import replace

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.why.ahead import outlook
from asynq_ttl.existing_keys.why.find import ListPlace, Whereabouts
from asynq_ttl.policy.rules import FOREVER_RETENTION, FOREVER_SCORE, Policy
from asynq_ttl.policy_file.load import parse_policy
from support.scripted_database import NOW, task_of
from support.whereabouts import where

RULES = """
rules:
  - {name: keeper, match: {queue: keep}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: thrower, match: {queue: throw}, archived: {ttl: delete}}
  - {name: default, match: {queue: q}, archived: {ttl: 2h, max: 500}, completed: {ttl: keep}}
"""


def policy(*top: str) -> Policy:
    """Return the policy, with more lines at its top."""
    return parse_policy("\n".join(["version: 1", *top]) + RULES, "policy.yaml")


def archived(queue: str = "q", ttl_ms: int = -1) -> Whereabouts:
    """Return a task that was archived an hour ago."""
    return where(task_of("archived", queue=queue, score=NOW - 3_600, ttl_ms=ttl_ms))


CASES: dict[str, tuple[Whereabouts, Policy | None, str]] = {
    "something else at its key": (
        where(Task("q", b"a", "", exists=False), "archived", wrong=("asynq:{q}:t:a",)),
        None,
        "left alone until that key is renamed or deleted",
    ),
    "a rule": (archived(ttl_ms=1), policy(), "The policy is policy.yaml ("),
    "its TTL": (archived(ttl_ms=1), policy(), "Now rule default decides: kept for 2h."),
    "its grace": (archived(ttl_ms=3_660_000), policy(), "Its time is over at 2023-11-14T23:13:20Z (in 1h)"),
    "its cap": (archived(ttl_ms=1), policy(), "goes earlier if 500 newer tasks"),
    "with a sink": (archived(ttl_ms=1), policy().handing_over(3_600), "after the sink has taken it"),
    "held": (
        where(task_of("archived", queue="throw", score=NOW - 3_600, held=True)),
        policy("adopt: all"),
        "It is held since 2023-11-14T22:13:20Z",
    ),
    "for ever": (archived("keep"), policy(), "Nothing removes it: rule keeper keeps it for ever."),
    "done, for ever": (
        where(task_of("completed", score=FOREVER_SCORE, retention_seconds=FOREVER_RETENTION)),
        policy(),
        "Nothing removes it: `done` keeps it for ever, whatever the policy says now.",
    ),
    "not at all": (archived("throw"), policy(), "By rule thrower it is not kept at all, but its key has no TTL."),
    "adopted if new": (
        archived(),
        policy(),
        "due at 2023-11-14T23:13:20Z, but its key has no TTL. A sidecar's sweeper adopts it if",
    ),
    "adopted": (archived(), policy("adopt: all"), "adopts it within a minute"),
    "not adopted": (archived(), policy("adopt: off"), "`asynq-ttl backfill` does not"),
    "no rule": (archived("other"), policy(), "Now no rule decides."),
    "as Asynq has it": (
        archived("other"),
        policy(),
        "from 2024-02-12T21:13:20Z (in 89d23h) on, or when 10,000 newer ones",
    ),
    "in shadow mode": (
        archived(),
        policy("mode: shadow"),
        "mode shadow: nothing of that is carried out. Asynq removes it",
    ),
    "outside the share": (archived(), policy("rollout: 0%"), "outside the rollout's share"),
    "no policy": (archived(), None, "not known: give --policy, or --admin"),
    "no policy, a TTL": (archived(ttl_ms=1), None, "a grace before that"),
    "an orphan": (where(task_of("archived")), None, "Nothing removes it: it has no TTL, and is in no index."),
    "completed": (
        where(task_of("completed", score=NOW + 60)),
        None,
        "The janitor of a worker removes it at 2023-11-14T22:14:20Z",
    ),
    "Asynq's own time": (
        where(task_of("completed", score=NOW + 60, ttl_ms=1)),
        policy(),
        "decides: kept for Asynq's own time",
    ),
    "live": (
        where(task_of("pending"), pending=ListPlace(3, 9, 9)),
        policy(),
        "Once it is archived, rule default decides: kept for 2h.",
    ),
    "next": (where(task_of("pending"), pending=ListPlace(3, 9, 9)), None, "after 2 other tasks"),
    "late": (where(task_of("pending"), pending=ListPlace(0, 900, 100)), None, "after 100 other tasks at least"),
    "lost": (
        where(task_of("pending"), pending=ListPlace(0, 9, 9)),
        None,
        "No worker takes it: its ID is not in the list.",
    ),
    "paused": (where(task_of("pending"), pending=ListPlace(1, 1, 1), paused=True), None, "The queue is paused"),
    "scheduled": (
        where(task_of("scheduled", score=NOW + 60)),
        None,
        "becomes pending at 2023-11-14T22:14:20Z (in 1m).",
    ),
    "overdue": (where(task_of("retry", score=NOW - 60)), None, "That is over: a running worker"),
    "never": (where(task_of("retry")), None, "Nothing moves it on"),
    "active": (
        where(task_of("active", score=NOW + 30)),
        None,
        "until 2023-11-14T22:13:50Z (in 30s) if it does not prolong",
    ),
    "lease over": (where(task_of("active", score=NOW - 30)), None, "Its lease was over at 2023-11-14T22:12:50Z"),
    "no lease": (where(task_of("active")), None, "it has no lease"),
    "aggregating": (where(task_of("aggregating")), None, "its group"),
    "a state of nobody": (where(task_of("odd")), None, "its state is none of Asynq's"),
    "a ghost": (where(Task("q", b"a", "", exists=False), "archived"), policy(), "drops the ghost"),
    "ambiguous": (where(task_of("archived", queue="a}:b", score=NOW)), policy(), "can be read as those of another"),
}


@pytest.mark.parametrize(("found", "decides", "said"), CASES.values(), ids=CASES)
def test_what_is_said(found: Whereabouts, decides: Policy | None, said: str) -> None:
    """Each of what can become of a task."""
    assert said in " ".join(outlook(found, NOW, decides).sentences)


def test_as_json() -> None:
    """The rules by their state, and when the next thing happens."""
    told = outlook(archived(ttl_ms=3_660_000), NOW, policy()).as_json()
    assert told["rules_now"] == {"archived": {"rule": "default", "ttl": "2h"}}
    assert told["next_at"] == "2023-11-14T23:13:20Z"
    live = outlook(where(task_of("pending")), NOW, policy()).as_json()
    assert live["rules_now"] == {
        "completed": {"rule": "default", "ttl": "keep"},
        "archived": {"rule": "default", "ttl": "2h"},
    }
    assert live["next_at"] is None


def test_a_task_of_which_nothing_can_be_read() -> None:
    """It is told of all the same."""
    unreadable = replace(task_of("aggregating"), record=None)
    assert outlook(where(unreadable), NOW, policy()).sentences
    assert not outlook(where(Task("q", b"a", "", exists=False), wrong=("k",)), NOW, None).sentences


REPLACING = """
rules:
  - name: all
    match: {queue: q}
    archived: {ttl: 2h, on_conflict: replace}
    completed: {ttl: 2h, on_conflict: replace}
  - {name: more, done: {ttl: 2h}}
"""


@pytest.mark.parametrize(
    ("state", "done", "said"),
    [
        ("archived", "refuse", "An enqueue with its ID replaces it."),
        ("completed", "replace", "An enqueue with its ID replaces it."),
        ("completed", "refuse", "An enqueue with its ID replaces it, if the rule for it says so"),
        ("pending", "replace", ""),
    ],
)
def test_what_an_enqueue_with_its_id_does(state: str, done: str, said: str) -> None:
    """It is said of what has ended and is not held; whether `done` has kept it is not known."""
    text = "version: 1" + REPLACING.replace("{ttl: 2h}}", f"{{ttl: 2h, on_conflict: {done}}}}}")
    told = " ".join(outlook(where(task_of(state, score=NOW)), NOW, parse_policy(text, "p")).sentences)
    assert said in told
    assert ("An enqueue" in told) == bool(said)
    held = outlook(where(task_of(state, score=NOW, held=True)), NOW, parse_policy(text, "p"))
    assert "An enqueue" not in " ".join(held.sentences)
    assert "An enqueue" not in " ".join(outlook(where(task_of(state, score=NOW)), NOW, policy()).sentences)


def test_with_a_sink_nothing_is_replaced() -> None:
    """An enqueue with its ID is refused, whatever the rule says."""
    handing_over = parse_policy("version: 1" + REPLACING, "p").handing_over(3_600)
    told = " ".join(outlook(where(task_of("archived", score=NOW)), NOW, handing_over).sentences)
    assert "replaces it" not in told
    assert "An enqueue with its ID is refused, whatever the rule says: with a sink nothing is replaced." in told
