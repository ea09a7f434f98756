"""What Lua inside Redis is told of the rules."""

import json

import pytest

from asynq_ttl.policy import lua_rules
from asynq_ttl.policy.lua_rules import LuaArguments, lua_argument, picked_rules, replacing_rules
from asynq_ttl.policy.rules import Keep, Retention, Rule, State
from support.policy_calls import DAY, DELETE, FOREVER, OWN, for_seconds, policy_of, types

MIXED = policy_of(
    Rule("a", types=types("ping:*", "é?"), archived=for_seconds(60), completed=OWN),
    Rule("b", types=types("x"), archived=OWN),
    Rule("elsewhere", queues=types("other"), archived=for_seconds(1), completed=for_seconds(1)),
    Rule("c", types=types("y"), completed=FOREVER),
    Rule("d", archived=DELETE),
    Rule("never", archived=FOREVER),
)


def test_the_rules_of_a_state_go_in_their_order() -> None:
    """Each with its patterns and seconds, up to the first that matches every type; what is silent is left out."""
    first = [glob.lua.decode("latin-1") for glob in types("ping:*", "é?")]
    assert picked_rules(MIXED, "q", State.ARCHIVED) == {
        "rules": [{"types": first, "seconds": 60}, {"types": ["^x$"], "seconds": "own"}, {"types": [], "seconds": 0}]
    }
    assert picked_rules(MIXED, "q", State.COMPLETED) == {
        "rules": [{"types": first, "seconds": "own"}, {"types": ["^y$"], "seconds": -1}]
    }


@pytest.mark.parametrize(
    ("rules", "unmatched"),
    [
        ((Rule("r", types=types("a"), archived=FOREVER, completed=FOREVER),), "own"),
        ((Rule("r", types=types("a"), archived=for_seconds(91 * DAY)),), "own"),
        ((Rule("r", types=types("a"), archived=for_seconds(60)),), None),
        ((Rule("r", archived=FOREVER),), None),
        ((Rule("r", completed=FOREVER),), None),
    ],
)
def test_without_a_rule_archived_tasks_have_asynq_s_time_where_its_trims_are_off(
    rules: tuple[Rule, ...], unmatched: str | None
) -> None:
    """Completed ones never have: no trim concerns them."""
    assert picked_rules(policy_of(*rules), "q", State.ARCHIVED).get("unmatched") == unmatched
    assert "unmatched" not in picked_rules(policy_of(*rules), "q", State.COMPLETED)


def test_patterns_go_through_json_byte_by_byte() -> None:
    """They are no UTF-8: Lua works on bytes."""
    argument = lua_argument(picked_rules(MIXED, "q", State.ARCHIVED))
    assert types("é?")[0].lua.replace(b"\\", b"\\\\") in argument
    assert json.loads(argument.decode("latin-1")) == picked_rules(MIXED, "q", State.ARCHIVED)


def test_an_argument_is_put_together_once_for_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else it is made from is handed on; the memory has a limit."""
    monkeypatch.setattr(lua_rules, "_MEMORY_LIMIT", 2)
    made: list[tuple[str, int]] = []

    def content(queue: str, most: int) -> dict[str, object]:
        made.append((queue, most))
        return {queue: most}

    arguments = LuaArguments(content)
    assert [arguments.of(queue, 3) for queue in "abacab"] == [b'{"%c":3}' % ord(queue) for queue in "abacab"]
    assert made == [("a", 3), ("b", 3), ("c", 3), ("a", 3), ("b", 3)]


def test_what_is_replaced_has_a_mark_of_its_own() -> None:
    """Each rule has a number, and one that says nothing of it has 0 in its place."""
    replaced = Retention(Keep.FOREVER, replaceable=True)
    policy = policy_of(
        Rule("a", types=types("x:*"), archived=replaced),
        Rule("b", types=types("y"), archived=for_seconds(60)),
        Rule("c", archived=replaced),
    )
    assert replacing_rules(policy, "q", State.ARCHIVED, 5) == {
        "rules": [
            {"types": ["^x%:.*$"], "seconds": 5},
            {"types": ["^y$"], "seconds": 0},
            {"types": [], "seconds": 7},
        ]
    }
