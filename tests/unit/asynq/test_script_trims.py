"""How scripts trim the index that they fill."""

import pytest

from asynq_ttl.asynq.lua_reader import LuaText
from asynq_ttl.asynq.script_trims import Trims, read_trims

# Before each text: the task goes into the index, and things have names.
BEFORE = "redis.call('ZADD', K, ARGV[1], id) local max = tonumber(ARGV[5]) local n = redis.call('ZCARD', K) "


def trims_of(text: str) -> Trims | None:
    """Return how a text trims KEYS[1], for which K stands."""
    return read_trims(LuaText(text.replace("K,", "KEYS[1],").replace("K)", "KEYS[1])")).calls, "KEYS[1]")


@pytest.mark.parametrize(
    ("trim", "expected"),
    [
        ("", Trims()),
        ("redis.call('ZRANGE', KEYS[2], 0, -9)", Trims()),
        ("redis.call('ZREMRANGEBYSCORE', K, '-inf', ARGV[4])", Trims(4)),
        ("redis.call('ZREMRANGEBYSCORE', K, 0, tonumber(ARGV[4]))", Trims(4)),
        ("redis.call('ZREMRANGEBYSCORE', K, 1, ARGV[4])", None),
        ("redis.call('ZREMRANGEBYSCORE', K, '-inf', ARGV[4] - 1)", None),
        ("redis.call('ZREMRANGEBYSCORE', K)", None),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -ARGV[5])", Trims(0, 5, -1)),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -(max + 1))", Trims(0, 5, 0)),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -10001)", None),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -#ids - ARGV[5])", None),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -#(ARGV[5]))", None),
        ("redis.call('ZPOPMAX', K, 1)", None),
        ("if max > 0 then redis.call('ZREMRANGEBYRANK', K, 0, -max - 1) end", Trims(0, 5, 0)),
        # What is too many is counted.
        ("if n > max then redis.call('ZREMRANGEBYRANK', K, 0, n - max - 1) end", Trims(0, 5, 0)),
        ("if n > max and max > 0 then redis.call('ZPOPMIN', K, n - max) end", Trims(0, 5, 0)),
        ("if n >= max then redis.call('ZPOPMIN', K, n - max + 1) end", Trims(0, 5, -1)),
        ("if max < n then redis.call('ZPOPMIN', K, n - max) end", Trims(0, 5, 0)),
        ("local over = n - max if over > 0 then redis.call('ZPOPMIN', K, over) end", Trims(0, 5, 0)),
        ("local over = n - max if over >= 1 then redis.call('ZPOPMIN', K, over) end", Trims(0, 5, 0)),
        ("redis.call('ZPOPMIN', K, math.max(n - max, 0))", Trims(0, 5, 0)),
        ("redis.call('ZPOPMIN', K, math.max(0, redis.pcall('zcard', K) - ARGV[5]))", Trims(0, 5, 0)),
        ("if n > max then redis.call('ZPOPMIN', K) end", Trims(0, 5, 0)),
        ("while redis.call('ZCARD', K) > max do redis.call('ZPOPMIN', K, 1) end", Trims(0, 5, 0)),
        ("while redis.call('ZCARD', K) >= max do redis.call('ZPOPMIN', K) end", Trims(0, 5, -1)),
        # Without a condition Redis refuses a negative number, and a negative rank is another one.
        ("redis.call('ZPOPMIN', K, n - max)", None),
        ("redis.call('ZREMRANGEBYRANK', K, 0, n - max - 1)", None),
        ("redis.call('ZREMRANGEBYRANK', K, 0, math.max(n - max - 1, 0))", None),
        ("if max > 0 then redis.call('ZPOPMIN', K, n - max) end", None),
        ("if n > max + 5 then redis.call('ZPOPMIN', K, n - max) end", None),
        ("if n ~= max then redis.call('ZPOPMIN', K, n - max) end", None),
        ("if n > max or x then redis.call('ZPOPMIN', K, n - max) end", None),
        ("if n > max then x() end redis.call('ZPOPMIN', K, n - max)", None),
        ("redis.call('ZPOPMIN', K)", None),
        ("if x then redis.call('ZPOPMIN', K) end", None),
        ("if n > 100 then redis.call('ZPOPMIN', K, n - 100) end", None),
        ("if 2 * n > max then redis.call('ZPOPMIN', K) end", None),
        # Two trims.
        ("redis.call('ZREMRANGEBYRANK', K, 0, -max) redis.call('ZREMRANGEBYSCORE', K, '-inf', ARGV[4])", Trims(4, 5)),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -max) redis.call('ZRANGE', K, 0, -ARGV[5])", Trims(0, 5)),
        ("redis.call('ZREMRANGEBYRANK', K, 0, -max) redis.call('ZREMRANGEBYRANK', K, 0, -ARGV[6])", None),
    ],
)
def test_how_an_index_is_trimmed(trim: str, expected: Trims | None) -> None:
    """By age, by number, both or not at all."""
    assert trims_of(BEFORE + trim) == expected


@pytest.mark.parametrize(
    "text",
    [
        "local n = redis.call('ZCARD', K) redis.call('ZADD', K, 1, id) if n > ARGV[5] then POP end",
        "redis.call('ZADD', K, 1, id) local n = redis.call('ZCARD', KEYS[2]) if n > ARGV[5] then POP end",
        "local n = redis.call('ZCARD', K) if n > ARGV[5] then POP end redis.call('ZADD', K, 1, id)",
    ],
)
def test_a_size_of_something_else_is_none(text: str) -> None:
    """The index before the task is in it, or another one."""
    assert trims_of(text.replace("POP", "redis.call('ZPOPMIN', K)")) is None
