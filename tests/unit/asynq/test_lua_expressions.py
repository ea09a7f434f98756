"""What expressions read as."""

import pytest

from asynq_ttl.asynq.lua_expressions import arguments, expression, total
from asynq_ttl.asynq.lua_reader import LuaText

NAMES = {"K": "KEYS", "key": "KEYS[2]", "id": "id", "max": "ARGV[5]", "call": "redis.call"}
SIZE = 'redis.call("ZCARD",KEYS[2])'


def read(text: str) -> str:
    """Return what an expression reads as, as the value of a local name does."""
    tokens = LuaText(text)._tokens
    return expression(tokens, 0, NAMES) or total(tokens, 0, NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("K[2]", "KEYS[2]"),
        ("ARGV[1] .. 't:' .. id", 'ARGV[1].."t:"..id'),
        ("max", "ARGV[5]"),
        ("-max - 1", "(-ARGV[5]-1)"),
        ("tonumber(ARGV[5])", "tonumber(ARGV[5])"),
        ("tonumber(max) + 1", "(tonumber(ARGV[5])+1)"),
        ("redis.call('ZCARD', KEYS[2])", SIZE),
        ("redis.pcall('zcard', key) - max", f"({SIZE}-ARGV[5])"),
        ("call('ZCARD', key) - tonumber(max)", f"({SIZE}-tonumber(ARGV[5]))"),
        ("tonumber(call('ZCARD', key))", f"tonumber({SIZE})"),
        ("call('ZCARD', key) * 2", ""),
        ("call('ZCARD')", ""),
        ("call('ZCARD', id)", ""),
        ("call('LLEN', key)", ""),
        ("max()", ""),
        ("max * 2", ""),
        ("- id", ""),
        ("(max + 1", ""),
        ("max -", ""),
        ("", ""),
    ],
)
def test_what_an_expression_reads_as(text: str, expected: str) -> None:
    """Terms joined by `..`, or a sum."""
    assert read(text) == expected


def test_what_is_long_is_not_read() -> None:
    """Security limits: neither an expression nor what it reads as grows, however names are built from names."""
    assert read("1" + " + 1" * 100) == ""
    assert read("'x'" + " .. 'x'" * 100) == ""
    names = {"n0": "ARGV[1]"}
    for number in range(40):
        tokens = [f"n{number}", "+", f"n{number}"]
        names[f"n{number + 1}"] = total(tokens, 0, names)
    assert max(map(len, names.values())) < 300


def test_the_arguments_of_a_call() -> None:
    """As far as its closing parenthesis; none where there is none, or no call."""
    assert arguments(["(", "'a'", ",", "f", "(", "b", ",", "c", ")", ")", "d"], 0, {}) == ["'a'", "f(b,c)"]
    assert arguments(["(", "a"], 0, {}) == []
    assert arguments(["a"], 0, {}) == []
