"""`_resp.c`: what is asked about every command and reply has one answer, compiled or not, and it is the exact one."""

import importlib.util
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.wire import commands, replies
from asynq_ttl.wire.commands import Command, encode
from asynq_ttl.wire.replies import ReplyCounter
from support.resp_pieces import CHUNKS, WORDS
from support.uncompiled import uncompiled

PLAIN_COMMANDS, PLAIN_REPLIES = (uncompiled(module, "asynq_ttl.wire._resp") for module in (commands, replies))
assert PLAIN_COMMANDS._compiled_encode is PLAIN_REPLIES._compiled_count is None
COUNT_REPLIES: list[Callable[[bytes], int]] = [replies.count_replies, PLAIN_REPLIES.count_replies]


def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.wire._resp") is not None


@given(command=st.lists(st.one_of(WORDS, st.binary(min_size=90, max_size=110)), max_size=12))
def test_encoding_has_one_answer(command: Command) -> None:
    """It is the one that hiredis gives."""
    plain = PLAIN_COMMANDS.encode(command)
    assert encode(command) == encode(tuple(command)) == plain
    assert PLAIN_COMMANDS.encode is not encode


def test_only_bytes_are_encoded() -> None:
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
