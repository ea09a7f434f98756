"""What bulk scripts read."""

import pytest

from asynq_ttl.asynq.lua_reader import LuaText
from asynq_ttl.asynq.script_sources import Source, read_source


def source_of(text: str) -> Source | None:
    """Return what a text reads, that fills KEYS[2]."""
    return read_source(LuaText(text).calls, "KEYS[2]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis.call('ZRANGE', KEYS[1], 0, -1)", Source(1, "ZRANGE")),
        ("redis.call('LRANGE', KEYS[3], '0', '-1')", Source(3, "LRANGE")),
        ("redis.call('ZRANGE', KEYS[1], 0, 99)", Source(1, "ZRANGE", 0, 99)),
        ("redis.call('ZREVRANGE', KEYS[1], 0, ARGV[5] - 1)", Source(1, "ZREVRANGE", 5, -1)),
        ("local n = tonumber(ARGV[5]) redis.call('ZRANGE', KEYS[1], 0, n - 1)", Source(1, "ZRANGE", 5, -1)),
        ("redis.call('ZRANGE', KEYS[1], 0, ARGV[5])", Source(1, "ZRANGE", 5, 0)),
        ("redis.call('ZRANGE', KEYS[1], 0, -1) redis.call('ZRANGE', KEYS[2], 0, -5)", Source(1, "ZRANGE")),
        ("redis.call('ZRANGE', KEYS[1], 0, -1) redis.call('ZRANGE', KEYS[3], 0, -1)", None),
        ("redis.call('ZRANGE', KEYS[1], 1, -1)", None),
        ("redis.call('ZRANGE', KEYS[1], 0, -2)", None),
        ("redis.call('ZRANGE', KEYS[1], 0, -ARGV[5])", None),
        ("redis.call('ZRANGE', KEYS[1], 0, size)", None),
        ("redis.call('ZRANGE', KEYS[1], 0, #KEYS - ARGV[1])", None),
        ("redis.call('ZRANGE', KEYS[1], 0, -1, 'REV')", None),
        ("redis.call('ZRANGE', KEYS[1])", None),
        ("redis.call('ZRANGE')", None),
        ("redis.call('ZRANGE', ARGV[1], 0, -1)", None),
        ("redis.call('SMEMBERS', KEYS[1])", None),
        ("redis.call('PING')", None),
    ],
)
def test_one_list_or_set_from_its_beginning(text: str, expected: Source | None) -> None:
    """All of it, or up to a rank that is a number or what an ARGV says."""
    assert source_of(text) == expected
