"""`_resp.c`: what is asked about every command and reply has one answer, compiled or not, and it is the exact one."""

import importlib.util
import sys
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.wire import commands, replies
from asynq_ttl.wire.commands import Command, encode
from asynq_ttl.wire.replies import ReplyCounter
from support.resp_pieces import CHUNKS, WORDS
from support.uncompiled import uncompiled

PLAIN_COMMANDS, PLAIN_REPLIES = (uncompiled(module, "asynq_ttl.wire._resp") for module in (commands, replies))
assert PLAIN_COMMANDS._compiled_encode is PLAIN_REPLIES._compiled_count is PLAIN_REPLIES._compiled_skip is None
COUNT_REPLIES: list[Callable[[bytes], int]] = [replies.count_replies, PLAIN_REPLIES.count_replies]


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.wire._resp") is not None


@given(command=st.lists(st.one_of(WORDS, st.binary(min_size=90, max_size=110)), max_size=12))
def test_encoding_has_one_answer(command: Command) -> None:
    """It is the one that hiredis gives."""
    plain = PLAIN_COMMANDS.encode(command)
    assert encode(command) == encode(tuple(command)) == plain
    assert PLAIN_COMMANDS.encode is not encode


@pytest.mark.compiled
def test_the_compiled_part_encodes_only_bytes() -> None:
    """A command with anything else in it has no plain form."""
    for command in ([b"GET", 5], [b"GET", None], [b"GET", [b"a"]], b"GET", {b"GET"}):
        with pytest.raises(TypeError):
            encode(command)  # type: ignore[arg-type]


@given(chunk=CHUNKS)
@example(chunk=b"+OK\r\n")
@example(chunk=b"$-1\r\n")
@example(chunk=b"*-1\r\n")
@example(chunk=b"$0\r\n\r\n")
@example(chunk=b"$2\r\n\r\n\r\n")
@example(chunk=b"$-2\r\n")
@example(chunk=b"+\r\n")
@example(chunk=b"+\n")
@example(chunk=b"+a\r\n+b\r\n")
@example(chunk=b"$01\r\na\r\n")
@example(chunk=b":1\r\n$-1\r\n$1\r\na\r\n")
def test_replies_that_are_told_count_as_many(chunk: bytes) -> None:
    """As many as are told there are. Without the compiled part only a lone one is told."""
    compiled, plain = (count_replies(chunk) for count_replies in COUNT_REPLIES)
    assert plain in (compiled, 0)
    assert compiled != 1 or plain == 1
    if compiled:
        counter = ReplyCounter()
        assert counter.feed(chunk) == compiled
        assert counter.between


@given(value=st.binary(max_size=20))
def test_replies_of_asynq_need_no_closer_look(value: bytes) -> None:
    """A status, an error, a number, a string, nil: what Asynq's scripts answer with is told at once."""
    line = value.replace(b"\n", b"").replace(b"\r", b"")
    bulk = b"$%d\r\n%b\r\n" % (len(value), value)
    for chunk in (b"+%b\r\n" % line, b"-%b\r\n" % line, bulk, b":1\r\n", b"$-1\r\n", b"_\r\n"):
        assert [count_replies(chunk) for count_replies in COUNT_REPLIES] == [1, 1]


def test_only_bytes_are_counted() -> None:
    """Anything else is a mistake of the caller's."""
    with pytest.raises(TypeError):
        replies.count_replies("+OK\r\n")  # type: ignore[arg-type]


VALUES = st.recursive(
    st.one_of(
        st.binary(max_size=12).map(lambda value: b"$%d\r\n%b\r\n" % (len(value), value)),
        st.sampled_from([b":1\r\n", b"$-1\r\n", b"_\r\n", b"+OK\r\n", b"*-1\r\n", b"$01\r\na\r\n", b"=5\r\ntxt:a\r\n"]),
        st.sampled_from(
            [b"|1\r\n+k\r\n+v\r\n:1\r\n", b"*x\r\n", b"?\r\n", b"!3\r\nERR\r\n", b",1.5\r\n", b"$2\r\nabXY"]
        ),
    ),
    lambda inner: st.tuples(st.sampled_from([b"*", b"~", b"%", b">"]), st.lists(inner, max_size=4)).map(
        lambda made: b"%b%d\r\n%b" % (made[0], len(made[1]) // (2 if made[0] == b"%" else 1), b"".join(made[1]))
    ),
)
"""Values in a reply, plain ones and others."""


@given(stream=st.lists(VALUES, max_size=5).map(b"".join), cuts=st.lists(st.integers(0, 200), max_size=4))
def test_a_reply_ends_in_one_place(stream: bytes, cuts: list[int]) -> None:
    """With the compiled part and without it, wherever the bytes are cut; also where they make no sense."""
    counters = [ReplyCounter(), PLAIN_REPLIES.ReplyCounter()]
    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), len(stream)})
    for start, end in pairwise(edges):
        compiled, plain = (
            (counter.feed(stream[start:end]), counter.heads, counter.between, counter.lost) for counter in counters
        )
        assert compiled == plain


@pytest.mark.compiled
@pytest.mark.parametrize(
    ("data", "missing", "expected"),
    [
        (b":1\r\n$1\r\na\r\n:2\r\n", 2, (11, 0)),
        (b"*2\r\n:1\r\n%1\r\n+a\r\n", 1, (16, 1)),
        (b"*-1\r\n", 1, (0, 1)),
        (b":1\r\n:2", 5, (4, 4)),
        (b":1\r\n", 0, (0, 0)),
        (b":1\r\n", sys.maxsize, (0, sys.maxsize)),
    ],
)
def test_the_compiled_part_passes_over_values_until_one_is_not_plain(
    data: bytes, missing: int, expected: tuple[int, int]
) -> None:
    """Or not whole, or none is missing. Without the compiled part none is."""
    assert replies._skip(data, 0, missing) == expected
    assert PLAIN_REPLIES._skip(data, 0, missing) == (0, missing)


@pytest.mark.compiled
def test_the_compiled_part_refuses_a_position_outside_the_data() -> None:
    """It would be a mistake of the caller's."""
    for position in (-1, 5):
        with pytest.raises(ValueError, match="position"):
            replies._skip(b":1\r\n", position, 1)
