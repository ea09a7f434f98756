"""What is asked about every chunk has one answer: compiled or not, and the one that looking closer gives."""

import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import asynq_ttl
from asynq_ttl import resp
from asynq_ttl.resp import Command, CommandFramer, ReplyCounter, WholeCommands, encode


def uncompiled() -> ModuleType:
    """Load `resp` as it is where there was no C compiler."""
    spec = importlib.util.spec_from_file_location("uncompiled_resp", resp.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(asynq_ttl, "_chunk")
        patch.setitem(sys.modules, "asynq_ttl._chunk", None)
        spec.loader.exec_module(module)
    assert module._chunk is None
    return module


PLAIN = uncompiled()
LONE: list[Callable[[bytes], Command | None]] = [WholeCommands().lone, PLAIN.WholeCommands().lone]
IS_LONE_REPLY: list[Callable[[bytes], bool]] = [resp.is_lone_reply, PLAIN.is_lone_reply]

COMMANDS = st.lists(st.one_of(st.binary(max_size=8), st.sampled_from((b"EVALSHA", b"\r\n", b"$1\r\n"))), max_size=6)
SHORT = [bytes([byte]) for byte in b"*$+-:_#,(!>|012a \r\n"]
LONGER = [b"", b"\r\n", b"-1", b"01", b"+1", b"ab", b"999999999", b"9999999999", b"$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"]
PIECES = st.sampled_from(SHORT + LONGER)
CHUNKS = st.one_of(st.lists(PIECES, max_size=8).map(b"".join), st.binary(max_size=12))


def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl._chunk") is not None


@given(command=COMMANDS.filter(bool))
@example(command=[b"x"] * 99)
@example(command=[b""])
def test_a_whole_command_is_found(command: Command) -> None:
    """A chunk that is one command gives its arguments."""
    assert [lone(encode(command)) for lone in LONE] == [command, command]


@given(command=COMMANDS, cut=st.integers(1, 200), more=st.binary(min_size=1, max_size=4))
def test_a_part_or_more_is_none(command: Command, cut: int, more: bytes) -> None:
    """A chunk that is less than a command, or more, is none."""
    whole = encode(command)
    for chunk in (whole[: -min(cut, len(whole))], whole + more, whole + whole):
        assert [lone(chunk) for lone in LONE] == [None, None]


@given(chunk=CHUNKS)
@example(chunk=b"*1\r\n$01\r\na\r\n")
@example(chunk=b"*01\r\n$1\r\na\r\n")
@example(chunk=b"*1\r\n$1\r\nab\r")
@example(chunk=b"*1\r\n+a\r\n")
@example(chunk=b"*1\r\n$-1\r\n")
@example(chunk=b"*0\r\n")
@example(chunk=b"*-1\r\n")
def test_what_is_found_is_what_the_framer_finds(chunk: bytes) -> None:
    """Only what Redis frames as one command is called one, and both say the same."""
    compiled, plain = (lone(chunk) for lone in LONE)
    assert compiled == plain
    framer = CommandFramer(WholeCommands(), lambda _head, _size: False)
    data, commands, _ = framer._feed_slowly(chunk)
    alone = data == chunk and len(commands) == 1 and commands[0] and not framer.opaque
    assert compiled == (commands[0] if alone else None)


@pytest.mark.parametrize("count", [100, 1000, 1024 * 1024])
def test_a_command_of_many_arguments_needs_a_closer_look(count: int) -> None:
    """Nothing of that size is made room for by its header alone."""
    for chunk in (b"*%d\r\n" % count, encode([b"a"] * 100)):
        assert LONE[0](chunk) is None


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
def test_a_lone_reply_counts_as_one(chunk: bytes) -> None:
    """What is called one reply is one; both say the same."""
    compiled, plain = (is_lone_reply(chunk) for is_lone_reply in IS_LONE_REPLY)
    assert compiled is plain
    if compiled:
        counter = ReplyCounter()
        assert counter.feed(chunk) == 1
        assert counter.between


@given(value=st.binary(max_size=20))
def test_replies_of_asynq_are_lone(value: bytes) -> None:
    """A status, an error, a number, a string, nil: what Asynq's scripts answer with needs no closer look."""
    line = value.replace(b"\n", b"").replace(b"\r", b"")
    for chunk in (
        b"+%b\r\n" % line,
        b"-%b\r\n" % line,
        b":1\r\n",
        b"$%d\r\n%b\r\n" % (len(value), value),
        b"$-1\r\n",
        b"_\r\n",
    ):
        assert [is_lone_reply(chunk) for is_lone_reply in IS_LONE_REPLY] == [True, True]


def test_only_bytes_are_looked_at() -> None:
    """Whatever else is given is neither."""
    assert resp.is_lone_reply(bytearray(b"+OK\r\n")) is False  # type: ignore[arg-type]
    assert LONE[0](bytearray(b"*1\r\n$1\r\na\r\n")) is None  # type: ignore[arg-type]
