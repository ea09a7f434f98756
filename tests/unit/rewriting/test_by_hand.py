"""What the inspector's archiving of tasks becomes."""

import json
from dataclasses import replace

import pytest

from asynq_ttl.events import Action
from asynq_ttl.policy import lua_rules
from asynq_ttl.policy.rules import (
    FULL_ROLLOUT,
    Policy,
    Retention,
    Rule,
)
from asynq_ttl.rewriting.by_hand import HEALING_RULES
from asynq_ttl.rewriting.call import Rewrite
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import (
    ALL,
    ARCHIVE_ALL_CALL,
    ARCHIVE_ONE_CALL,
    DAY,
    DELETE,
    FOREVER,
    GRACE,
    OWN,
    ScriptCall,
    decided,
    for_seconds,
    policy_of,
    rewritten,
    types,
)


def rules_sent(found: Rewrite | None) -> dict[str, object]:
    """Return what a bulk wrapper is told."""
    assert found is not None
    assert found.tail is not None
    told: dict[str, object] = json.loads(found.tail.decode("latin-1"))
    return told


@pytest.mark.parametrize("call", [ARCHIVE_ONE_CALL, ARCHIVE_ALL_CALL], ids=["one", "all"])
def test_where_the_type_is_unknown_the_wrapper_gets_the_rules(
    call: ScriptCall,
) -> None:
    """Every rule that can apply goes along in order, with its limits, and nothing else of the command changes."""
    policy = policy_of(
        Rule("a", types=types("ping:*", "é?"), archived=for_seconds(60)),
        Rule("b", types=types("x"), archived=OWN),
        Rule("silent", completed=for_seconds(1)),
        Rule("other", queues=types("other"), archived=for_seconds(1)),
        Rule("c", types=types("y"), archived=FOREVER),
        Rule("d", archived=DELETE, archived_max=7),
    )
    found = rewritten(policy, call)
    assert rules_sent(found) == {
        "rules": [
            {"types": [glob.lua.decode("latin-1") for glob in types("ping:*", "é?")], "seconds": 60},
            {"types": ["^x$"], "seconds": "own"},
            {"types": ["^y$"], "seconds": -1},
            {"types": [], "seconds": 0},
        ],
        "grace": GRACE,
        "share": FULL_ROLLOUT,
        "cutoff": -1,
        "cutoff_own": True,
        "cap": 7,
        "uncapped": False,
        "spare": True,
    }
    assert found is not None
    assert found.argv == ()
    decision = decided(found)
    assert (decision.operation, decision.state, decision.action) == ("archive", "archived", Action.TTL)
    assert (decision.rule, decision.ttl_seconds) == ("", None)
    assert decision.task_id == ("id" if call is ARCHIVE_ONE_CALL else "")


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((Rule("r", archived=for_seconds(60)),), {"cutoff": 60, "cutoff_own": False, "cap": -1, "uncapped": False}),
        ((Rule("r", archived=FOREVER),), {"cutoff": -1, "cap": -1, "uncapped": True, "spare": False}),
        ((Rule("r", types=types("a"), archived=FOREVER),), {"cutoff": -1, "uncapped": True, "unmatched": "own"}),
        ((Rule("r", types=types("a"), archived=for_seconds(91 * DAY)),), {"unmatched": "own", "cutoff_own": True}),
    ],
)
def test_the_limits_of_the_queue_go_with_its_rules(rules: tuple[Rule, ...], expected: dict[str, object]) -> None:
    """The wrapper trims by the same limits as for a worker; types without a rule keep Asynq's time."""
    told = rules_sent(rewritten(policy_of(*rules), ARCHIVE_ALL_CALL))
    assert {name: told.get(name) for name in expected} == expected


def test_types_without_a_rule_get_nothing_where_nothing_outlasts_asynq() -> None:
    """Beside shorter rules only, a type without a rule keeps to Asynq's own trims."""
    told = rules_sent(rewritten(policy_of(Rule("r", types=types("a"), archived=for_seconds(60))), ARCHIVE_ALL_CALL))
    assert "unmatched" not in told


@pytest.mark.parametrize(
    ("kept", "action"),
    [(for_seconds(1), Action.TTL), (OWN, Action.KEEP), (FOREVER, Action.NONE), (DELETE, Action.DELETE)],
)
def test_a_sole_rule_is_named_even_in_bulk(kept: Retention, action: Action) -> None:
    """Where one rule decides about every type, the decision says so."""
    decision = decided(rewritten(policy_of(Rule("sole", archived=kept)), ARCHIVE_ALL_CALL))
    assert (decision.rule, decision.action) == ("sole", action)


def test_the_rules_of_a_queue_are_put_together_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was worked out for a queue is used again; the memory for it has a limit."""
    rewriter = Rewriter(policy_of(ALL), set())
    tails = [rewritten(rewriter, ARCHIVE_ALL_CALL) for _ in range(2)]
    assert tails[0] is not None
    assert tails[1] is not None
    assert tails[0].tail is tails[1].tail
    monkeypatch.setattr(lua_rules, "_MEMORY_LIMIT", 1)
    text, keys, args = ARCHIVE_ALL_CALL
    elsewhere = (text, [key.replace(b"{q}", b"{r}") for key in keys], [*args[:3], b"asynq:{r}:t:"])
    assert rules_sent(rewritten(rewriter, elsewhere)) == rules_sent(tails[0])
    again = rewritten(rewriter, ARCHIVE_ALL_CALL)
    assert again is not None
    assert again.tail == tails[0].tail
    assert again.tail is not tails[0].tail


@pytest.mark.parametrize("policy", [policy_of(replace(ALL, archived=None)), policy_of(ALL, rollout=0)])
def test_a_task_that_is_archived_by_hand_brings_no_ttl_from_completed(policy: Policy) -> None:
    """Where no rule gives it one as archived, the wrapper takes off what it had, and trims as Asynq does."""
    found = rewritten(policy, ARCHIVE_ONE_CALL)
    assert found is not None
    assert (found.enforced, found.tail, found.argv) == (True, HEALING_RULES, ())
    assert found.decision is None or not found.decision.enforced


def test_a_rollout_of_nothing_rewrites_no_bulk_command() -> None:
    """With no task in the share the archive is trimmed as Asynq does it."""
    none, one = (rewritten(policy_of(ALL, rollout=share), ARCHIVE_ALL_CALL) for share in (0, 1))
    assert none is not None
    assert one is not None
    assert (none.enforced, one.enforced) == (False, True)
    assert rules_sent(one)["share"] == 1
