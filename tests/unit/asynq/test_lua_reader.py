import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.lua_reader import LuaCall, LuaText


def calls_of(text: str) -> list[tuple[str, ...]]:
    """Return the calls of a text, each as its command and arguments."""
    return [(call.command, *call.args) for call in LuaText(text).calls]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis.call('ZADD', KEYS[1], ARGV[2], name)", ("ZADD", "KEYS[1]", "ARGV[2]", "name")),
        ('redis . pcall ( "hset" , KEYS [ 1 ], [[state]] )', ("HSET", "KEYS[1]", '"state"')),
        (
            "redis.call('ZREMRANGEBYRANK', key, 0, -tonumber(ARGV[5]))",
            ("ZREMRANGEBYRANK", "key", "0", "-tonumber(ARGV[5])"),
        ),
        ("redis.call('DEL', ARGV[1] .. 't:' .. id)", ("DEL", 'ARGV[1].."t:"..id')),
        ("redis.call('SADD', f(a, {b, c}), d[e])", ("SADD", "f(a,{b,c})", "d[e]")),
        ("redis.call('GET', 'it''s')", ("GET", '"it""s"')),
        ("redis.call('GET', [==[a]]b]==])", ("GET", '"a]]b"')),
        ("redis.call('PING')", ("PING",)),
    ],
)
def test_a_call_is_read_as_canonical_text(text: str, expected: tuple[str, ...]) -> None:
    """The command is in upper case, strings are in double quotes, and white space is gone."""
    assert calls_of(text) == [expected]


def test_calls_come_in_their_order_from_anywhere_in_the_text() -> None:
    """What is around a call does not matter, be it another call."""
    text = "for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do redis.call('DEL', redis.call('GET', id)) end"
    assert [call.command for call in LuaText(text).calls] == ["LRANGE", "DEL", "GET"]
    assert LuaText(text).calls[2] == LuaCall("GET", ("id",))


@pytest.mark.parametrize(
    "text",
    [
        "-- redis.call('DEL', KEYS[1])\n",
        "--[[ redis.call('DEL', KEYS[1]) \n ]]",
        "--[==[ ]] redis.call('DEL', KEYS[1]) ]==]",
        "local help = \"redis.call('DEL', KEYS[1])\"",
        "local help = [=[ redis.call('DEL', KEYS[1]) ]] ]=]",
        "redis.call() redis.call 'PING' redis.call(name) redis.log(redis.LOG_NOTICE, 'DEL')",
        "redis.call('DEL', KEYS[1]",
        "myredis.call('DEL') other.redis_call('DEL')",
    ],
)
def test_what_is_no_call_is_not_taken_for_one(text: str) -> None:
    """Comments, strings, calls that do not spell out the command, and calls that do not end."""
    assert calls_of(text) == []


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("local index = KEYS[2]", "KEYS[2]"),
        ("local index = ARGV[1] .. 'x'", 'ARGV[1].."x"'),
        ("local K = KEYS local index = K[2]", "KEYS[2]"),
        ("local prefix = ARGV[1] local index = prefix .. id", "ARGV[1]..id"),
        ("local index = 'archived'", '"archived"'),
        ("local index = KEYS[2] or KEYS[3]", "index"),
        ("local index = KEYS[2] index = KEYS[3]", "index"),
        ("local index = KEYS[2] local index = KEYS[3]", "index"),
        ("local index = KEYS[2] other, index = 1, 2", "index"),
        ("local index = KEYS[2] for index = 1, 2 do end", "index"),
        ("local index = KEYS[2] local function change(index) end", "index"),
        ("local index = KEYS[number]", "KEYS[number]"),
        ("local index = f(KEYS[2])", "index"),
        ("local index = -KEYS[2]", "index"),
        ("local index", "index"),
        ("index = KEYS[2]", "index"),
    ],
)
def test_a_name_assigned_once_and_simply_is_resolved(before: str, expected: str) -> None:
    """Which of two values holds where would need a Lua interpreter, and so would any other expression."""
    assert calls_of(f"{before} redis.call('DEL', index)") == [("DEL", expected)]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("local call = redis.call call('DEL', 'a') call('DEL', 'b')", 2),
        ("local call = redis.call other.call('DEL', 'a') other:call('DEL', 'a')", 0),
        ("local call = redis.call call = other call('DEL', 'a')", 0),
        ("local reply = redis.call('GET', 'a') reply('DEL')", 1),
    ],
)
def test_redis_call_may_have_a_local_name(text: str, count: int) -> None:
    """As forks write it; the name counts where it is assigned once and belongs to nothing else."""
    assert len(LuaText(text).calls) == count


def test_a_text_mentions_the_strings_that_are_spelt_out_in_it() -> None:
    """However they are quoted, but neither in comments nor inside other strings."""
    text = LuaText("local a = 'archived' -- 'completed'\nlocal b = [[a 'retry' state]] local pending = 1")
    assert text.mentions("archived")
    assert not any(map(text.mentions, ("completed", "retry", "pending")))


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("local count = #KEYS + #ARGV for _, key in ipairs(KEYS) do end", False),
        ("local all = {unpack(ARGV)} local key = KEYS[1] table.getn(ARGV)", False),
        ("local args = ARGV local first = args[1]", False),
        ("KEYS = {}", True),
        ("local KEYS = {}", True),
        ("KEYS[1] = KEYS[2]", True),
        ("other, ARGV[1] = 1, 2", True),
        ("table.remove(ARGV, 1)", True),
        ("local args = ARGV args[1] = 'x'", True),
        ("local args = ARGV table.remove(args)", True),
        ("local function shadowed(KEYS) end", True),
        ("for KEYS in pairs({}) do end", True),
    ],
)
def test_a_text_that_may_change_its_arguments_is_known(*, text: str, changes: bool) -> None:
    """KEYS and ARGV may be counted, unpacked, gone through and named, but not assigned or handed to anybody else."""
    assert LuaText(text).changes_arguments() is changes


@pytest.mark.parametrize(
    ("text", "hides"),
    [
        ("redis.call('GET', KEYS[1])", False),
        ("local call = redis.call call('GET', KEYS[1])", False),
        ("redis.log(1, 'x')", False),
        ("return 1", False),
        ("local r = redis r.call('GET')", True),
        ("local call = redis['call']", True),
        ("redis.call(ARGV[1])", True),
        ("local call = redis.call call(ARGV[1])", True),
        ("local calls = {redis.call}", True),
        ("redis.call", True),
        ("local call = redis.call local call = redis.call", True),
        ("redis.pcall 'PING'", True),
    ],
)
def test_a_text_that_may_hide_a_call_is_known(*, text: str, hides: bool) -> None:
    """By another name for `redis`, or where the command is not spelt out."""
    assert LuaText(text).hides_calls() is hides


def test_names_built_from_names_do_not_grow() -> None:
    """A name that stands for twice the name before, many times over, is given up."""
    doubled = "".join(f"local n{n} = n{n - 1} .. n{n - 1}\n" for n in range(1, 60))
    for last in range(60):
        assert len(calls_of(f"local n0 = KEYS[1]\n{doubled}redis.call('DEL', n{last})")[0][1]) < 300


def test_a_call_with_hundreds_of_tokens_is_not_read() -> None:
    """No call of Asynq's is nearly as long."""
    assert len(LuaText(f"redis.call('DEL'{', x' * 90})").calls) == 1
    assert calls_of(f"redis.call('DEL'{', x' * 100})") == []


@given(st.text(max_size=200))
def test_no_text_raises(text: str) -> None:
    """Whatever it is."""
    lua = LuaText(text)
    assert lua.changes_arguments() in (True, False)
    assert lua.hides_calls() in (True, False)
