"""What holds where a call stands."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.lua_reader import LuaText


def guard_of(text: str) -> tuple[str, ...]:
    """Return what holds where a text calls PING."""
    return next(call.guard for call in LuaText(text).calls if call.command == "PING")


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        ("redis.call('PING')", ()),
        ("if a > 0 then redis.call('PING') end", ("a>0",)),
        ("if a > 0 then x() end redis.call('PING')", ()),
        ("if a > 0 then x() else redis.call('PING') end", ()),
        ("if a > 0 then x() elseif b then redis.call('PING') end", ("b",)),
        ("if a > 0 and f(b, c) then redis.call('PING') end", ("a>0", "f(b,c)")),
        ("if a > 0 or b then redis.call('PING') end", ()),
        ("if not a then redis.call('PING') end", ()),
        ("while a > 0 do redis.call('PING') end", ("a>0",)),
        ("while a do x() end redis.call('PING')", ()),
        ("if a then for _, b in ipairs(c) do x() end redis.call('PING') end", ("a",)),
        ("if a then for _ = 1, 2 do redis.call('PING') end end", ("a",)),
        ("if a then do redis.call('PING') end end", ("a",)),
        ("if a then do x() end end redis.call('PING')", ()),
        ("if a then repeat redis.call('PING') until b end", ("a",)),
        ("if a then repeat x() until b redis.call('PING') end", ("a",)),
        ("if a then if b then x() end redis.call('PING') end", ("a",)),
        ("if a then if b then redis.call('PING') end end", ("b",)),
        ("if a then local function f() redis.call('PING') end end", ()),
        ("if a then local function f() return 1 end redis.call('PING') end", ("a",)),
        ("local max = ARGV[1] if n > max then redis.call('PING') end", ("n>ARGV[1]",)),
        ("local max = ARGV[1] if math.max(n, max) > 0 then redis.call('PING') end", ("math.max(n,ARGV[1])>0",)),
        ("if redis.call('PING') then x() end", ('redis.call("PING")',)),
        ("if " + "a + " * 40 + "a then redis.call('PING') end", ()),
        ("end end redis.call('PING')", ()),
    ],
)
def test_the_innermost_condition_around_a_call(text: str, guard: tuple[str, ...]) -> None:
    """Each part of what is joined by `and`; nothing where something else may hold."""
    assert guard_of(text) == guard


def test_what_is_deep_is_not_looked_for() -> None:
    """A security limit: a condition that is many blocks away counts as none."""
    assert guard_of("if a then " + "do " * 19 + "redis.call('PING')") == ("a",)
    assert guard_of("if a then " + "do " * 20 + "redis.call('PING')") == ()


WORDS = ["if", "while", "for", "do", "then", "else", "elseif", "end", "repeat", "until", "function", "and", "not", "a"]


@given(st.lists(st.sampled_from([*WORDS, "redis.call('PING')"]), max_size=60))
def test_no_text_raises(words: list[str]) -> None:
    """Whatever it is."""
    assert all(isinstance(call.guard, tuple) for call in LuaText(" ".join(words)).calls)
