"""Which KEYS and ARGV the calls of a script name."""

import pytest

from asynq_ttl.asynq.call_arguments import ARGV, KEYS, arg_number, call_matches, find_call, key_number, prefix_number
from asynq_ttl.asynq.lua_reader import LuaText

CALLS = LuaText("redis.call('GET', KEYS[1]) redis.call('ZADD', KEYS[2], ARGV[1], ARGV[2]) redis.call('GET', 'x')").calls


@pytest.mark.parametrize(
    ("expression", "key", "arg", "prefix"),
    [
        ("KEYS[1]", 1, 0, 0),
        ("KEYS[12]", 12, 0, 0),
        ("ARGV[3]", 0, 3, 0),
        ("tonumber(ARGV[3])", 0, 3, 0),
        ("ARGV[2]..id", 0, 0, 2),
        ("KEYS[0]", 0, 0, 0),
        ("KEYS[123]", 0, 0, 0),
        ("KEYS[1]..id", 0, 0, 0),
        ("ARGV[2]..id..ARGV[3]", 0, 0, 0),
        ("", 0, 0, 0),
    ],
)
def test_an_expression_names_one_place_or_none(expression: str, key: int, arg: int, prefix: int) -> None:
    """The whole of it has to have the form."""
    assert (key_number(expression), arg_number(expression), prefix_number(expression)) == (key, arg, prefix)


def test_a_call_is_found_by_its_command_and_its_first_arguments() -> None:
    """Patterns and texts; what follows them may be anything."""
    add = find_call(CALLS, "ZADD", KEYS, ARGV)
    assert add is CALLS[1]
    assert find_call(CALLS, "GET", '"x"') is CALLS[2]
    assert find_call(CALLS, "GET", ARGV) is None
    assert find_call(CALLS, "SET") is None
    assert not call_matches(add, (KEYS, ARGV, ARGV, ARGV)), "it has not as many"
