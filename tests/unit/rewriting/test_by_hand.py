"""What the inspector's archiving of tasks becomes."""

import json
from dataclasses import replace
from unittest.mock import Mock

import pytest

from asynq_ttl.events import Action
from asynq_ttl.policy import lua_rules
from asynq_ttl.policy.rules import (
    FULL_ROLLOUT,
    Policy,
    Retention,
    Rule,
)
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
    NOW,
    OWN,
    OWN_SECONDS,
    REGISTRY,
    ScriptCall,
    decided,
    for_seconds,
    policy_of,
    rewritten,
    set_clock,
    types,
)

NEARLY_OWN_CAP = [b"-10001", b"-10000"]
"""The ranks of what is too much where 9,999 are kept, as Asynq does."""


def words_sent(found: Rewrite | None) -> list[bytes]:
    """Return what a wrapper is told, as words; the last one has the rules, if they go along."""
    assert found is not None
    assert found.tail is not None
    return found.tail.split(b" ", 7)


def rules_sent(found: Rewrite | None) -> dict[str, object]:
    """Return the rules that a wrapper picks from."""
    words = words_sent(found)
    assert words[0] == b"*"
    told: dict[str, object] = json.loads(words[7].decode("latin-1"))
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
    }
    assert words_sent(found)[:7] == [b"*", b"-", b"-9", b"-8", b"1", b"60", b"%d" % OWN_SECONDS]
    assert found is not None
    assert found.argv == ()
    decision = decided(found)
    assert (decision.operation, decision.state, decision.action) == ("archive", "archived", Action.TTL)
    assert (decision.rule, decision.ttl_seconds) == ("", None)
    assert decision.task_id == ("id" if call is ARCHIVE_ONE_CALL else "")


@pytest.mark.parametrize("call", [ARCHIVE_ONE_CALL, ARCHIVE_ALL_CALL], ids=["one", "all"])
@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (Rule("r", archived=for_seconds(60)), b"120000 %d -10001 -10000 0 60" % (NOW - 60)),
        (Rule("r", archived=for_seconds(60), archived_max=7), b"120000 %d -9 -8 0 60" % (NOW - 60)),
        (Rule("r", archived=OWN), b"%d000 %d -10001 -10000 0 60" % (OWN_SECONDS + GRACE, NOW - OWN_SECONDS)),
        (Rule("r", archived=FOREVER), b"0 - - - 0 60"),
        (Rule("r", archived=DELETE), b"-1 %d -10001 -10000 0 60" % NOW),
    ],
)
def test_one_rule_for_every_type_is_worked_out_here(call: ScriptCall, rule: Rule, told: bytes) -> None:
    """Then the wrapper reads no rule and no message: it is told what a worker's archiving is told."""
    found = rewritten(policy_of(rule), call)
    assert found is not None
    assert found.tail == told


@pytest.mark.parametrize(
    ("rules", "trims", "unmatched"),
    [
        ((Rule("r", types=types("a"), archived=FOREVER),), [b"-", b"-", b"-"], "own"),
        (
            (Rule("r", types=types("a"), archived=for_seconds(91 * DAY)),),
            [b"%d" % (NOW - 91 * DAY), *NEARLY_OWN_CAP],
            "own",
        ),
        (
            (Rule("r", types=types("a"), archived=for_seconds(60)),),
            [b"%d" % (NOW - OWN_SECONDS), *NEARLY_OWN_CAP],
            None,
        ),
    ],
)
def test_the_limits_of_the_queue_go_with_its_rules(
    rules: tuple[Rule, ...], trims: list[bytes], unmatched: str | None
) -> None:
    """The wrapper trims by the same limits as for a worker; types without a rule keep Asynq's time."""
    found = rewritten(policy_of(*rules), ARCHIVE_ALL_CALL)
    assert words_sent(found)[1:4] == trims
    assert rules_sent(found).get("unmatched") == unmatched


@pytest.mark.parametrize("call", [ARCHIVE_ONE_CALL, ARCHIVE_ALL_CALL], ids=["one", "all"])
def test_where_the_clocks_may_differ_the_wrapper_asks(call: ScriptCall) -> None:
    """It is told what time the caller has."""
    REGISTRY.clock.forget()
    try:
        found = rewritten(policy_of(ALL), call)
    finally:
        set_clock()
    assert words_sent(found)[:2] == [b"?%d" % NOW, b"3660000"]


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
    made = Mock(wraps=lua_rules.lua_argument)
    monkeypatch.setattr(lua_rules, "lua_argument", made)
    rewriter = Rewriter(policy_of(Rule("r", types=types("a"), archived=OWN)), set())
    tails = [rewritten(rewriter, ARCHIVE_ALL_CALL) for _ in range(2)]
    assert rules_sent(tails[0]) == rules_sent(tails[1])
    assert made.call_count == 1
    monkeypatch.setattr(lua_rules, "_MEMORY_LIMIT", 1)
    text, keys, args = ARCHIVE_ALL_CALL
    elsewhere = (text, [key.replace(b"{q}", b"{r}") for key in keys], [*args[:3], b"asynq:{r}:t:"])
    assert rules_sent(rewritten(rewriter, elsewhere)) == rules_sent(tails[0])
    assert rules_sent(rewritten(rewriter, ARCHIVE_ALL_CALL)) == rules_sent(tails[0])
    assert made.call_count == 3


@pytest.mark.parametrize("policy", [policy_of(replace(ALL, archived=None)), policy_of(ALL, rollout=0)])
def test_a_task_that_is_archived_by_hand_brings_no_ttl_from_completed(policy: Policy) -> None:
    """Where no rule gives it one as archived, the wrapper takes off what it had, and trims as Asynq does."""
    found = rewritten(policy, ARCHIVE_ONE_CALL)
    assert found is not None
    assert (found.enforced, found.tail, found.argv) == (True, b"0 %d -10001 -10000 0 60" % (NOW - OWN_SECONDS), ())
    assert found.decision is None or not found.decision.enforced


def test_a_task_outside_the_share_trims_nothing_that_is_kept_for_longer() -> None:
    """The wrapper takes off what the task had as a completed one, and trims by the rules."""
    policy = policy_of(Rule("r", types=types("a"), archived=for_seconds(365 * DAY)), rollout=1)
    assert not policy.enforces(b"id")
    found = rewritten(policy, ARCHIVE_ONE_CALL)
    assert found is not None
    assert (found.enforced, found.tail) == (True, b"0 %d -10001 -10000 0 60" % (NOW - 365 * DAY))


def test_a_rollout_of_nothing_rewrites_no_bulk_command() -> None:
    """With no task in the share the archive is trimmed as Asynq does it."""
    none, one = (rewritten(policy_of(ALL, rollout=share), ARCHIVE_ALL_CALL) for share in (0, 1))
    assert none is not None
    assert one is not None
    assert (none.enforced, one.enforced) == (False, True)
    assert rules_sent(one)["share"] == 1
