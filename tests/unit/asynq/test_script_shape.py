from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.script_shape import OTHER, UNKNOWN, Kind, classify
from support.small_scripts import (
    ARCHIVE,
    ARCHIVE_ALL,
    ARCHIVE_ONE,
    COMPLETE,
    DELETE_ALL,
    DEQUEUE,
    DONE,
    ENQUEUE,
    ENQUEUE_UNIQUE,
    JANITOR,
    RECORD,
    RUN_ALL,
    RUN_ONE,
    SHAPES,
)

by_kind = pytest.mark.parametrize("text", SHAPES, ids=lambda text: SHAPES[text].kind.value)


def changed(text: bytes, old: bytes, new: bytes) -> bytes:
    """Return a text with something in it replaced."""
    assert old in text
    return text.replace(old, new)


@by_kind
def test_each_kind_is_known_by_what_it_does(text: bytes) -> None:
    """The kind, and which KEYS and ARGV play which part, are read from the text alone."""
    assert classify(text) == SHAPES[text]


@by_kind
def test_pcall_and_hmset_do_the_same(text: bytes) -> None:
    """The other spellings of a call and of a write change nothing."""
    assert classify(text.replace(b"redis.call", b"redis . pcall").replace(b'"HSET"', b"'hmset'")) == SHAPES[text]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'redis.call("RPOPLPUSH", KEYS[1], KEYS[3])', b'redis.call("LMOVE", KEYS[1], KEYS[3], "RIGHT", "LEFT")'),
        (
            b'redis.call("HSET", ARGV[2] .. id,',
            b'local A = ARGV local prefix = A[2] local task = prefix .. id redis.call("HSET", task,',
        ),
    ],
)
def test_a_dequeue_may_move_and_name_things_its_own_way(old: bytes, new: bytes) -> None:
    """LMOVE from right to left is RPOPLPUSH, and a local name stands for what it was given."""
    assert classify(changed(DEQUEUE, old, new)) == SHAPES[DEQUEUE]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'redis.call("ZREMRANGEBYSCORE", KEYS[3],', b'redis.call("ZRANGEBYSCORE", KEYS[3],'),
        (b'redis.call("ZREMRANGEBYRANK", KEYS[3],', b'redis.call("ZRANGE", KEYS[3],'),
        (b"-ARGV[5]", b"-tonumber(ARGV[5])"),
        (
            b'redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", ARGV[4])',
            b'redis.call("ZRANGE", KEYS[3], "-inf", ARGV[4], "BYSCORE")',
        ),
    ],
)
def test_an_archive_may_be_trimmed_in_several_ways(old: bytes, new: bytes) -> None:
    """By removing ranges, or by reading them and deleting one by one."""
    assert classify(changed(ARCHIVE, old, new)) == SHAPES[ARCHIVE]


@pytest.mark.parametrize(
    ("last", "offset"),
    [
        (b"-(N + 1)", 0),
        (b"-N - 1", 0),
        (b"-1 - N", 0),
        (b"-(tonumber(N) + 1)", 0),
        (b"-tonumber(N) - 2 + 1", 0),
        (b"-max", -1),
        (b"-(max + 1)", 0),
        (b"-more", 0),
        (b"negative", 1),
    ],
)
@pytest.mark.parametrize("text", [ARCHIVE, ARCHIVE_ONE, ARCHIVE_ALL])
def test_what_is_kept_may_be_any_linear_expression(text: bytes, last: bytes, offset: int) -> None:
    """Asynq's cap is off by one; a release that mends it keeps one entry more, and is understood as well."""
    cap = b"ARGV[%d]" % SHAPES[text].cap_arg
    names = b"local max = tonumber(N) local more = max + 1 local negative = -(more + 1) "
    written = names.replace(b"N", cap) + text.replace(b"-" + cap, last.replace(b"N", cap))
    assert classify(written) == replace(SHAPES[text], cap_offset=offset)


def test_a_sum_without_an_end_is_none() -> None:
    """A security limit, as for all expressions."""
    cap = b"ARGV[5]" + b" + 1" * 200
    assert classify(b"local max = " + cap + ARCHIVE.replace(b"-ARGV[5]", b"-max")) is UNKNOWN


def test_an_archive_may_have_no_trims() -> None:
    """Neither by age nor by number, or only one of the two."""
    by_age = changed(ARCHIVE, b'redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5])', b"")
    assert classify(by_age) == replace(SHAPES[ARCHIVE], cap_arg=0)
    neither = changed(by_age, b'redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", ARGV[4])', b"")
    assert classify(neither) == replace(SHAPES[ARCHIVE], cap_arg=0, cutoff_arg=0)


@pytest.mark.parametrize("text", [ARCHIVE, ARCHIVE_ONE, ARCHIVE_ALL])
def test_what_is_too_many_may_be_counted(text: bytes) -> None:
    """The size of the index less what is kept, popped; `script_trims` has the forms."""
    shape = SHAPES[text]
    index, cap = b"KEYS[%d]" % shape.index_key, b"ARGV[%d]" % shape.cap_arg
    trim = b'redis.call("ZREMRANGEBYRANK", %b, 0, -%b)' % (index, cap)
    popped = b'local over = redis.call("ZCARD", %b) - %b if over > 0 then redis.call("ZPOPMIN", %b, over) end'
    written = changed(text, trim, popped % (index, cap, index))
    assert classify(written) == replace(shape, cap_offset=0)


@pytest.mark.parametrize("text", [ARCHIVE_ALL, RUN_ALL, DELETE_ALL])
def test_a_bulk_script_may_take_only_some(text: bytes) -> None:
    """A number of its own, or what an ARGV says, from either end; `script_sources` has the forms."""
    every = b'"ZRANGE", KEYS[1], 0, -1'
    some = changed(text, every, b'"ZREVRANGE", KEYS[1], 0, tonumber(ARGV[7]) - 1')
    assert classify(some) == replace(SHAPES[text], source_command="ZREVRANGE", limit_arg=7)
    some = changed(text, every, b'"ZRANGE", KEYS[1], 0, 99').replace(b'"DEL", KEYS[1]', b'"ZREM", KEYS[1], "x"')
    assert classify(some) == replace(SHAPES[text], limit_offset=99)


def test_a_list_as_source_is_told_from_a_set() -> None:
    """The command that reads all IDs is remembered with the shape."""
    assert classify(changed(ARCHIVE_ALL, b'"ZRANGE"', b'"LRANGE"')) == replace(
        SHAPES[ARCHIVE_ALL], source_command="LRANGE"
    )


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (COMPLETE, b'"msg", ARGV[3], ', b""),
        (COMPLETE, b"KEYS[2]", b"ARGV[9] .. ARGV[1]"),
        (COMPLETE, b'redis.call("ZADD", KEYS[1], ARGV[2], ARGV[1])', b"0"),
        (COMPLETE, b'"ZADD", KEYS[1], ARGV[2], ARGV[1]', b'"ZADD", KEYS[1], ARGV[2]'),
        (COMPLETE, b'"ZADD", KEYS[1], ARGV[2], ARGV[1]', b'"ZADD", KEYS[1], ARGV[2], name'),
        (COMPLETE, b'"ZADD", KEYS[1], ', b'"ZADD", KEYS[1], "NX", '),
        (COMPLETE, b"KEYS[1]", b"KEYS[0]"),
        (COMPLETE, b"KEYS[1]", b"KEYS[123]"),
        (ARCHIVE, b'redis.call("ZADD"', b'redis.call("ZADD", KEYS[9], ARGV[3], ARGV[1]) redis.call("ZADD"'),
        (ARCHIVE, b'"-inf", ARGV[4]', b'"-inf", "(" .. ARGV[4]'),
        (ARCHIVE, b"-ARGV[5]", b"-ARGV[5] * 2"),
        (ARCHIVE, b"-ARGV[5]", b"ARGV[5]"),
        (ARCHIVE, b"-ARGV[5]", b"-ARGV[5] - ARGV[4]"),
        (ARCHIVE, b'"ZREMRANGEBYRANK", KEYS[3], 0,', b'"ZREMRANGEBYRANK", KEYS[3], 1,'),
        (ARCHIVE, b'"ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5]', b'"ZPOPMIN", KEYS[3], ARGV[5]'),
        (ARCHIVE, b"-ARGV[5])", b'-ARGV[5]) redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[6])'),
        (ARCHIVE, b"ARGV[4])", b'ARGV[4]) redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", ARGV[6])'),
        (ARCHIVE, b"ARGV[3], ARGV[1])", b"ARGV[3], name)"),
        (ARCHIVE, b'"msg", ARGV[2], ', b""),
        (ARCHIVE, b'"state", "archived")', b'"state", "archived") redis.call("HSET", KEYS[9], "state", "completed")'),
        (ARCHIVE_ONE, b'redis.call("HGET", KEYS[1], "state")', b'redis.call("HGET", KEYS[1])'),
        (ARCHIVE_ALL, b"ARGV[4] .. name", b"name"),
        (ARCHIVE_ALL, b'"ZRANGE", KEYS[1], 0, -1', b'"ZRANGE", KEYS[1], 0, size'),
        (ARCHIVE_ALL, b'redis.call("DEL", KEYS[1])', b'redis.call("SMEMBERS", KEYS[3])'),
    ],
)
def test_an_end_that_is_not_understood_is_unknown(text: bytes, old: bytes, new: bytes) -> None:
    """A script that ends tasks in a way of its own is not wrapped, and said to be unknown."""
    assert classify(changed(text, old, new)) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (DEQUEUE, b"RPOPLPUSH", b"LPOPRPUSH"),
        (DEQUEUE, b'redis.call("ZADD", KEYS[4], ARGV[1], id)', b""),
        (DEQUEUE, b"ARGV[2] .. id", b"id"),
        (DEQUEUE, b'"active"', b'"scheduled"'),
        (RUN_ONE, b'"state", "pending"', b'"msg", ARGV[3], "state", "pending"'),
        (RUN_ONE, b"LPUSH", b"SADD"),
        (RUN_ONE, b"HGET", b"HEXISTS"),
        (RUN_ALL, b"ARGV[1] .. name", b"name"),
        (RUN_ALL, b'"ZRANGE"', b'"LRANGE"'),
        (RUN_ALL, b'"ZRANGE", KEYS[1], 0, -1', b'"ZRANGEBYSCORE", KEYS[1], 0, -1'),
        (RUN_ALL, b'"pending")', b'"pending") redis.call("HSET", ARGV[1] .. name, "state", "retry")'),
        (JANITOR, b'"-inf"', b"0"),
        (JANITOR, b'"DEL", ARGV[2] .. name', b'"PING"'),
        (JANITOR, b'redis.call("DEL", ARGV[2] .. name)', b"redis.call('DEL')"),
        (JANITOR, b'redis.call("ZREM", KEYS[1], name)', b""),
        (JANITOR, b'redis.call("ZREM", KEYS[1], name)', b'redis.call("ZREM", KEYS[1], name) redis.call("HSET")'),
        (JANITOR, b', "LIMIT", 0, tonumber(ARGV[3])', b""),
        (JANITOR, b"tonumber(ARGV[3])", b"100"),
        (RECORD, b"-ARGV[3])", b'-ARGV[3]) redis.call("ZREMRANGEBYRANK", KEYS[2], 0, -ARGV[3])'),
        (RECORD, b"-ARGV[3])", b'-ARGV[3]) redis.call("GET", KEYS[1])'),
        (RECORD, b"-ARGV[3])", b'-ARGV[3]) redis.call("ZADD", KEYS[1], ARGV[1], ARGV[2])'),
        (RECORD, b"-ARGV[3])", b"-ARGV[3]) redis.call(name)"),
        (RECORD, b'redis.call("ZREMRANGEBYRANK", KEYS[1], 0, -ARGV[3])', b""),
        (RECORD, b"KEYS[1], ARGV[1], ARGV[2]", b'KEYS[1], "NX", ARGV[1], ARGV[2]'),
        (COMPLETE, b'"completed"', b"ARGV[4]"),
        (COMPLETE, b'"completed"', b'"retry"'),
        (COMPLETE, b"redis.call(", b"call("),
    ],
)
def test_what_ends_no_task_and_frees_none_is_other(text: bytes, old: bytes, new: bytes) -> None:
    """A script that is none of the kinds is left alone without a word."""
    assert classify(changed(text, old, new)) is OTHER


@by_kind
def test_the_function_that_calls_redis_may_have_a_name_of_its_own(text: bytes) -> None:
    """Such as `local call = redis.call`, which forks use."""
    renamed = text.replace(b"redis.call(", b"call(").replace(b"redis.pcall(", b"call(")
    assert classify(b"local call = redis.call\n" + renamed) == SHAPES[text]


@pytest.mark.parametrize("text", [COMPLETE, ARCHIVE, ARCHIVE_ONE, ARCHIVE_ALL])
@pytest.mark.parametrize(
    "before",
    [
        b"local r = redis local function call(...) return r.call(...) end\n",
        b"local function call(...) return redis.call(...) end\n",
        b"local call = redis['call']\n",
        b"local call call = redis.call\n",
        b"local calls = {call = redis.call} local call = calls.call\n",
    ],
)
def test_calls_that_cannot_be_read_are_unknown(text: bytes, before: bytes) -> None:
    """A script that names a terminal state and hides what it calls is not passed over in silence."""
    assert classify(before + text.replace(b"redis.call(", b"call(")) is UNKNOWN


def test_a_name_for_redis_call_hides_nothing() -> None:
    """A script that names a terminal state and only reads, by a name of its own for `redis.call`, is no concern."""
    assert classify(b'local call = redis.call return call("ZCARD", KEYS[1] .. "archived")') is OTHER
    assert classify(b'local call = redis.call return call(ARGV[1], KEYS[1] .. "archived")') is UNKNOWN


def test_a_state_that_is_not_spelt_may_be_a_terminal_one() -> None:
    """A script that takes a state from elsewhere, and names a terminal one, is unknown."""
    text = b'local state = ARGV[1] == "x" and "archived" or "retry" redis.call("HSET", KEYS[1], "state", state)'
    assert classify(text) is UNKNOWN


@pytest.mark.parametrize(
    "before",
    [
        b'-- redis.call("HSET", KEYS[9], "state", "completed")\n',
        b'--[[ redis.call("HSET", KEYS[9], "state", "completed")\n ]]',
        b'--[==[ ]] redis.call("HSET", KEYS[9], "state", "completed")\n ]==]',
        b'local help = "redis.call(\\"HSET\\", KEYS[9], \\"state\\", \\"completed\\")"\n',
        b"local help = [=[ redis.call('HSET', KEYS[9], 'state', 'completed') ]] ]=]\n",
        b'redis.log(redis.LOG_NOTICE, "HSET") redis.setresp(3) redis.call() redis.call "PING" redis.call(name)\n',
        b"local count, total = #KEYS + #ARGV, 0 for _, key in ipairs(KEYS) do total = total + 1 end\n",
        b"local all = {unpack(ARGV)} local function size(list) return table.getn(list) end\n",
    ],
)
@by_kind
def test_text_around_it_does_not_matter(text: bytes, before: bytes) -> None:
    """Comments, strings and code that changes nothing are not taken for more than they are.

    Only of a log it has to be certain that the script does nothing else: it is left alone where a call cannot be read.
    """
    hides = text is RECORD and b"redis.call(name)" in before
    assert classify(before + text) == (OTHER if hides else SHAPES[text])


@pytest.mark.parametrize(
    "before",
    [
        b"KEYS = {KEYS[2], KEYS[1]}",
        b"local KEYS = {}",
        b"KEYS[1] = KEYS[2]",
        b"KEYS[1], other = KEYS[2], 1",
        b"other, ARGV[tonumber(ARGV[1])] = 1, 2",
        b"table.remove(ARGV, 1)",
        b"table.sort(KEYS)",
        b"local args = ARGV args[1] = 'x'",
        b"local args = ARGV table.remove(args)",
        b"local a, b = KEYS, ARGV",
        b"local function shadowed(KEYS) end",
        b"for KEYS in pairs({}) do end",
    ],
)
@by_kind
def test_changed_arguments_are_not_understood(text: bytes, before: bytes) -> None:
    """Where KEYS or ARGV may hold something else than they were sent, their numbers mean nothing."""
    expected = UNKNOWN if SHAPES[text].kind.value.startswith(("complete", "archive")) else OTHER
    assert classify(before + b"\n" + text) is expected


@pytest.mark.parametrize(
    "before",
    [
        b"local index = KEYS[2] index = KEYS[9]",
        b"local index = KEYS[2] local index = KEYS[9]",
        b"local index = KEYS[2] other, index = 1, 2",
        b"local index = KEYS[2] for index = 1, 2 do end",
        b"local index = KEYS[2] for number, index in ipairs(KEYS) do end",
        b"local index = KEYS[2] local function change(index) end",
        b"local index = KEYS[2] function index() end",
        b"local index = KEYS[2] .. suffix",
        b"local index = KEYS[2] or KEYS[3]",
        b"local index = KEYS[number]",
        b"local index = -KEYS[2]",
        b"local index = KEYS",
        b"local index",
        b"local index =",
    ],
)
def test_a_name_that_may_stand_for_something_else_is_no_alias(before: bytes) -> None:
    """Only a name that is given one simple value is read as that value."""
    text = changed(COMPLETE, b'redis.call("ZADD", KEYS[1]', b'redis.call("ZADD", index')
    assert classify(b"local index = KEYS[1]\n" + text) == SHAPES[COMPLETE]
    assert classify(before + b"\n" + text) is UNKNOWN


@by_kind
def test_a_script_cut_off_anywhere_is_the_same_or_nothing(text: bytes) -> None:
    """No beginning of a script passes for another kind or has other positions. It may have lost its trims."""
    shape = SHAPES[text]
    by_age, by_number = replace(shape, cap_arg=0), replace(shape, cutoff_arg=0)
    expected = [shape, by_age, by_number, replace(by_age, cutoff_arg=0), UNKNOWN, OTHER]
    for end in range(len(text)):
        assert classify(text[:end]) in expected


@given(st.binary(max_size=200))
def test_garbage_is_other(garbage: bytes) -> None:
    """Any bytes can be classified, and none that are no script pass for one."""
    assert classify(garbage).kind in (Kind.OTHER, Kind.UNKNOWN)


def test_names_built_from_names_do_not_grow() -> None:
    """A name that stands for twice the name before, many times over, is given up."""
    lines = [b"local n0 = KEYS[1]", *(b"local n%d = n%d .. n%d" % (n, n - 1, n - 1) for n in range(1, 200))]
    text = changed(COMPLETE, b"KEYS[1]", b"n199")
    assert classify(b"\n".join(lines) + text) is UNKNOWN


def test_a_call_with_hundreds_of_tokens_is_not_read() -> None:
    """A call longer than any of Asynq's is not taken apart."""
    text = changed(COMPLETE, b'"state", "completed"', b'"state", "completed"' + b', "x", 1' * 200)
    assert classify(text) is OTHER


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'redis.call("ZREM", KEYS[2], ARGV[1])', b""),
        (b'redis.call("ZREM", KEYS[2], ARGV[1])', b'redis.call("ZREM", KEYS[2], ARGV[2])'),
        (b'redis.call("LREM", KEYS[1], 0, ARGV[1])', b'redis.call("LREM", KEYS[1], -1, ARGV[1])'),
        (b'redis.call("DEL", KEYS[3])', b'redis.call("DEL", KEYS[3], KEYS[6])'),
        (b'redis.call("DEL", KEYS[3])', b'redis.call("DEL", KEYS[3]) redis.call("DEL", KEYS[6])'),
        (b'redis.call("DEL", KEYS[3])', b'redis.call("DEL", ARGV[2])'),
        (b'redis.call("DEL", KEYS[3])', b'redis.call("DEL", KEYS[3]) redis.call("LPUSH", KEYS[6], ARGV[1])'),
    ],
)
def test_what_deletes_a_task_otherwise_is_something_else(old: bytes, new: bytes) -> None:
    """An active task is taken off its list and its lease and deleted, one task and no other key, and goes nowhere."""
    assert classify(changed(DONE, old, new)) == OTHER


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (ENQUEUE, b'if redis.call("EXISTS", KEYS[1]) == 1 then return 0 end', b""),
        (ENQUEUE, b'redis.call("EXISTS", KEYS[1])', b'redis.call("EXISTS", KEYS[3])'),
        (ENQUEUE, b'if redis.call("EXISTS"', b'redis.call("SADD", KEYS[3], 1) if redis.call("EXISTS"'),
        (ENQUEUE, b"return 1\n", b'redis.call("INCR", KEYS[3]) return 1\n'),
        (ENQUEUE, b'"msg", ARGV[1], ', b'"msg", "x", '),
        (ENQUEUE, b'redis.call("HSET", KEYS[1], ', b'redis.call("HSET", ARGV[2], '),
        (ENQUEUE_UNIQUE, b'"NX", ', b""),
        (ENQUEUE_UNIQUE, b'redis.call("SET", KEYS[1]', b'redis.call("SET", ARGV[5]'),
        (ENQUEUE_UNIQUE, b"return 1\n", b'redis.call("SET", KEYS[4], 1, "NX") return 1\n'),
    ],
)
def test_what_adds_a_task_otherwise_is_something_else(text: bytes, old: bytes, new: bytes) -> None:
    """It must be able to run twice: before it looks whether the ID is taken it takes a lock at most."""
    assert classify(changed(text, old, new)).kind is not Kind.ENQUEUE
