import json

import pytest

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.lua_rules import lua_argument, rules_for_lua, seconds_for_lua
from asynq_ttl.policy.rules import Keep, Retention, Rule, State

WEEK = Retention(Keep.TTL, 604_800)


def test_rules_go_along_in_their_order_with_what_they_say_about_the_state() -> None:
    """A rule that says nothing about it is missing; one for every type has no patterns."""
    rules = (
        Rule("typed", types=(compile_glob("ping:*"),), archived=WEEK),
        Rule("silent", completed=WEEK),
        Rule("rest", archived=Retention(Keep.DELETE)),
    )
    pattern = compile_glob("ping:*").lua.decode()
    assert rules_for_lua(rules, State.ARCHIVED) == [
        {"types": [pattern], "seconds": 604_800},
        {"types": [], "seconds": 0},
    ]
    assert rules_for_lua(rules, State.COMPLETED) == [{"types": [], "seconds": 604_800}]


@pytest.mark.parametrize(
    ("retention", "seconds"),
    [(WEEK, 604_800), (Retention(Keep.OWN), "own"), (Retention(Keep.FOREVER), -1), (Retention(Keep.DELETE), 0)],
)
def test_a_retention_is_a_number_or_a_word(retention: Retention, seconds: int | str) -> None:
    """Never to be taken for one another."""
    assert seconds_for_lua(retention) == seconds


def test_a_pattern_goes_through_json_byte_for_byte() -> None:
    """Lua compares bytes, and a type may be any text."""
    pattern = compile_glob("é日*").lua
    argument = lua_argument(
        {"rules": rules_for_lua((Rule("a", types=(compile_glob("é日*"),), archived=WEEK),), State.ARCHIVED)}
    )
    assert pattern in argument
    assert json.loads(argument.decode("latin-1"))["rules"][0]["types"][0].encode("latin-1") == pattern
