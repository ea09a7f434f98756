"""What a worker's deletion of a task that has succeeded becomes."""

import json

import pytest

from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy import lua_rules
from asynq_ttl.policy.rules import FOREVER_RETENTION, FOREVER_SCORE, Mode, Policy, Retention, Rule
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import (
    DELETE,
    DONE_CALL,
    FOREVER,
    GRACE,
    OWN,
    ScriptCall,
    decided,
    for_seconds,
    policy_of,
    reason_of,
    rewritten,
    types,
)

HOUR = Rule("hour", done=for_seconds(3600))


def with_keys(*keys: bytes) -> ScriptCall:
    """Return the call with other KEYS in their places; what is empty stays."""
    given = (*keys, *[b""] * 5)
    return DONE_CALL[0], [new or old for new, old in zip(given, DONE_CALL[1], strict=False)], DONE_CALL[2]


def test_the_wrapper_gets_the_rules_of_the_queue() -> None:
    """In order, with those that keep nothing, since they hide what comes later; of the command nothing changes."""
    policy = policy_of(
        Rule("a", types=types("ping:*"), done=OWN),
        Rule("b", types=types("x"), done=DELETE),
        Rule("silent", completed=for_seconds(1), archived=for_seconds(1)),
        Rule("c", types=types("y"), done=FOREVER),
        HOUR,
        Rule("d", done=for_seconds(1)),
    )
    found = rewritten(policy, DONE_CALL)
    assert found is not None
    assert found.tail is not None
    assert json.loads(found.tail) == {
        "rules": [
            {"types": ["^ping%:.*$"], "seconds": "own"},
            {"types": ["^x$"], "seconds": 0},
            {"types": ["^y$"], "seconds": -1},
            {"types": [], "seconds": 3600},
        ],
        "grace": GRACE,
        "for_ever": FOREVER_SCORE,
        "longest": FOREVER_RETENTION,
    }
    assert (found.enforced, found.argv) == (True, ())
    assert (decided(found).rule, decided(found).action, decided(found).ttl_seconds) == ("", Action.TTL, None)


@pytest.mark.parametrize(
    ("retention", "action", "ttl"), [(for_seconds(60), Action.TTL, 60 + GRACE), (FOREVER, Action.NONE, None)]
)
def test_a_lone_rule_is_told_of(retention: Retention, action: Action, ttl: int | None) -> None:
    """Where no type can pick another one, it is known which rule decides."""
    assert decided(rewritten(policy_of(Rule("r", done=retention)), DONE_CALL)) == Decision(
        operation="complete",
        script="asynq.done",
        queue="q",
        state="completed",
        action=action,
        enforced=True,
        task_id="id",
        rule="r",
        ttl_seconds=ttl,
    )


@pytest.mark.parametrize(
    "policy",
    [
        policy_of(Rule("r", completed=for_seconds(1), archived=for_seconds(1))),
        policy_of(Rule("r", done=OWN)),
        policy_of(Rule("r", done=DELETE)),
        policy_of(Rule("r", queues=types("other"), done=for_seconds(1))),
        policy_of(Rule("r", done=OWN), Rule("hidden", done=for_seconds(1))),
        policy_of(HOUR, mode=Mode.OFF),
    ],
    ids=["nothing said", "keep", "delete", "another queue", "hidden", "off"],
)
def test_where_nothing_is_kept_the_command_goes_as_it_came(policy: Policy) -> None:
    """Asynq's own way needs no wrapper."""
    assert rewritten(policy, DONE_CALL) is None


@pytest.mark.parametrize(
    "call",
    [
        with_keys(b"other"),
        with_keys(b"", b"", b"", b"asynq:{q}:other"),
        with_keys(b"", b"", b"", b"", b"asynq:{q}:failed"),
    ],
    ids=["no active list", "not counted", "failed"],
)
def test_what_has_not_succeeded_is_not_kept(call: ScriptCall) -> None:
    """A script that throws a failed task away does all that this one does, and counts it as failed."""
    assert rewritten(policy_of(HOUR), call) is None


def test_another_task_s_key_is_not_understood() -> None:
    """The ID and the key have to say the same."""
    assert reason_of(policy_of(HOUR), with_keys(b"", b"", b"asynq:{q}:t:other")) is FailOpen.ARGUMENTS


@pytest.mark.parametrize(("mode", "rollout"), [(Mode.SHADOW, 10_000), (Mode.ENFORCE, 0)])
def test_what_is_only_shadowed_is_told(mode: Mode, rollout: int) -> None:
    """The command goes as it came."""
    found = rewritten(policy_of(HOUR, mode=mode, rollout=rollout), DONE_CALL)
    assert found is not None
    assert not found.enforced
    assert not decided(found).enforced


def test_the_queue_is_healed_from_then_on() -> None:
    """Its tasks may have a TTL, which comes off when they are run again, whatever the next policy says."""
    healed: set[str] = set()
    rewritten(Rewriter(policy_of(HOUR), healed), DONE_CALL)
    assert healed == {"q"}


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that was forgotten gets the same again."""
    monkeypatch.setattr(lua_rules, "_MEMORY_LIMIT", 1)
    rewriter = Rewriter(policy_of(HOUR), set())
    script, keys, args = DONE_CALL
    other = script, [key.replace(b"{q}", b"{r}") for key in keys], args
    found = [rewritten(rewriter, call) for call in (DONE_CALL, DONE_CALL, other, DONE_CALL)]
    assert len({each.tail for each in found if each is not None}) == 1
