"""What is asked about every chunk has one answer: compiled or not, and the one that looking closer gives."""

import importlib.util
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.wire import commands as resp
from asynq_ttl.wire.commands import Command, CommandFramer, ReplyCounter, WholeCommands, beginning_of, encode
from support.uncompiled import uncompiled

PLAIN = uncompiled(resp, "asynq_ttl.wire._resp")
assert PLAIN._compiled_look is PLAIN._compiled_count is PLAIN._compiled_encode is None
PING = b"*1\r\n$4\r\nPING\r\n"
SPECIAL = frozenset((b"EVALSHA", b"A"))
Look = Callable[..., int | bytes | Command | None]
LOOK: list[Look] = [WholeCommands().look, PLAIN.WholeCommands().look]
COUNT_REPLIES: list[Callable[[bytes], int]] = [resp.count_replies, PLAIN.count_replies]

WORDS = st.one_of(st.binary(max_size=8), st.sampled_from((b"EVALSHA", b"evalsha", b"a", b"\r\n", b"$1\r\n", b"x" * 40)))
COMMANDS = st.lists(WORDS, min_size=1, max_size=6)
SHORT = [bytes([byte]) for byte in b"*$+-:_#,(!>|012a \r\n"]
LONGER = [b"", b"\r\n", b"-1", b"01", b"+1", b"ab", b"999999999", b"9999999999", b"$1\r\na\r\n", b"*1\r\n$1\r\na\r\n"]
PIECES = st.sampled_from([*SHORT, *LONGER, b"$1\r\nb\r\n", b"*1\r\n$1\r\nb\r\n"])
CHUNKS = st.one_of(st.lists(PIECES, max_size=8).map(b"".join), st.binary(max_size=12))


def expected(commands: list[Command]) -> int | Command | None:
    """Say what whole commands are to be called."""
    if any(command[0].upper() in SPECIAL for command in commands):
        return commands[0] if len(commands) == 1 else None
    return len(commands)


def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.wire._resp") is not None


@given(commands=st.lists(COMMANDS, min_size=1, max_size=4))
@example(commands=[[b"x"] * 99])
@example(commands=[[b""]])
@example(commands=[[b"get", b"a"], [b"evalSHA", b"a"]])
def test_whole_commands_are_told(commands: list[Command]) -> None:
    """Commands of no interest are counted; the one that is of interest comes out."""
    chunk = b"".join(map(encode, commands))
    assert [look(chunk, SPECIAL, {}, {}) for look in LOOK] == [expected(commands)] * 2


@given(command=COMMANDS, cut=st.integers(1, 200), more=st.binary(min_size=1, max_size=4))
def test_a_part_of_a_command_is_not_told(command: Command, cut: int, more: bytes) -> None:
    """A chunk that ends within a command, or with something else, needs a closer look."""
    whole = encode(command)
    for chunk in (whole[: -min(cut, len(whole))], whole + more):
        assert [look(chunk, SPECIAL, {}, {}) for look in LOOK] == [None, None]


@given(chunk=CHUNKS)
@example(chunk=b"*1\r\n$01\r\na\r\n")
@example(chunk=b"*01\r\n$1\r\na\r\n")
@example(chunk=b"*1\r\n$1\r\nab\r")
@example(chunk=b"*1\r\n+a\r\n")
@example(chunk=b"*1\r\n$-1\r\n")
@example(chunk=b"*0\r\n")
@example(chunk=b"*-1\r\n")
@example(chunk=b"*1\r\n$1\r\nb\r\n*0\r\n")
def test_what_is_told_is_what_the_framer_finds(chunk: bytes) -> None:
    """Only what Redis frames as commands is called commands, and both say the same."""
    compiled, plain = (look(chunk, SPECIAL, {}, {}) for look in LOOK)
    assert compiled == plain
    framer = CommandFramer(WholeCommands(), lambda _head, _size: False)
    data, commands, _ = framer._feed_slowly(chunk)
    whole = data == chunk and commands and all(commands) and not framer.opaque
    assert compiled == (expected(commands) if whole else None)


POLL = [b"EVALSHA", b"s" * 40, b"2", b"k1", b"k2", b"a1", b"a2"]
BEGINNING = beginning_of(encode(POLL), POLL, 5)


@pytest.mark.parametrize("name", [b"evalsha", b"EVALSHA"])
@pytest.mark.parametrize("arguments", [[b"1"], [b"0"], [b"x", b"y"], [b"99", b"k"]])
def test_a_call_of_an_untouched_script_is_counted(name: bytes, arguments: list[bytes]) -> None:
    """Whatever its arguments are: Redis looks at them. One of another script comes out."""
    for sha, answer in ((b"u", 1), (b"v", [name, b"v", *arguments])):
        chunk = encode([name, sha, *arguments])
        assert [look(chunk, SPECIAL, {b"u": None}, {}) for look in LOOK] == [answer] * 2


@pytest.mark.parametrize("arguments", [(), (b"",), (b"1", b"2"), (b"$1\r\nx\r\n" * 9, b"1")])
def test_a_poll_becomes_what_is_remembered_of_its_beginning(arguments: tuple[bytes, ...]) -> None:
    """The bytes up to the last of the KEYS are replaced, and all behind them stays."""
    for keys in ((), (b"k1",), (b"k1", b"k2\r\n")):
        command = [b"evalsha", b"s", b"%d" % len(keys), *keys, *arguments]
        chunk = encode(command)
        beginning = beginning_of(chunk, command, 3 + len(keys))
        assert chunk.startswith(beginning)
        assert [look(chunk, SPECIAL, {}, {beginning: b"instead"}) for look in LOOK] == [
            b"instead" + chunk[len(beginning) :]
        ] * 2


@given(command=st.lists(st.one_of(WORDS, st.sampled_from(POLL)), min_size=1, max_size=8), change=st.integers(0, 6))
@example(command=[b"EVALSHA", b"s" * 40, b"02", b"k1", b"k2", b"a1", b"a2"], change=2)
@example(command=[b"EVALSHA", b"s" * 40, b"2"], change=2)
@example(command=[b"EVALSHA", b"s" * 40], change=0)
@example(command=[b"EVALSHA", b"s" * 40, b"", b"k1", b"k2", b"a1", b"a2"], change=1)
@example(command=[b"EVALSHA", b"s" * 40, b"x2", b"k1", b"k2", b"a1", b"a2"], change=1)
@example(command=[b"evalsha", b"s" * 40, b"2", b"k1", b"k2", b"a1", b"a2"], change=2)
def test_what_is_not_remembered_comes_out(command: Command, change: int) -> None:
    """A call that differs from the one remembered in anything up to its last KEY is another one."""
    near = [*POLL[:change], *command[change:]]
    for given_command in (command, near):
        chunk = encode(given_command)
        instead = {BEGINNING: BEGINNING.upper()}
        same = chunk.startswith(BEGINNING)
        answer = expected([given_command]) if not same else BEGINNING.upper() + chunk[len(BEGINNING) :]
        assert [look(chunk, SPECIAL, {}, instead) for look in LOOK] == [answer] * 2
        # Among other commands it is never looked at.
        assert [look(chunk + PING, SPECIAL, {}, instead) for look in LOOK] == [
            expected([given_command, [b"PING"]]),
        ] * 2


@given(command=st.lists(st.one_of(WORDS, st.binary(min_size=90, max_size=110)), max_size=12))
def test_encoding_has_one_answer(command: Command) -> None:
    """It is the one that hiredis gives."""
    plain = PLAIN.encode(command)
    assert encode(command) == encode(tuple(command)) == plain
    assert PLAIN.encode is not encode


def test_only_bytes_are_encoded() -> None:
    """A command with anything else in it has no plain form."""
    for command in ([b"GET", 5], [b"GET", None], [b"GET", [b"a"]], b"GET", {b"GET"}):
        with pytest.raises(TypeError):
            encode(command)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [100, 1000, 1024 * 1024])
def test_a_command_of_many_arguments_needs_a_closer_look(count: int) -> None:
    """Nothing of that size is made room for by its header alone."""
    for chunk in (b"*%d\r\n" % count, encode([b"a"] * 100)):
        assert LOOK[0](chunk, SPECIAL, {}, {}) is None


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


def test_only_bytes_are_looked_at() -> None:
    """Anything else is a mistake of the caller's."""
    mistakes: list[tuple[object, ...]] = [(bytearray(PING), SPECIAL, {}, {}), (PING, (), {}, {}), (PING, SPECIAL, {})]
    for arguments in [*mistakes, (PING, SPECIAL, (), {}), (PING, SPECIAL, {}, ())]:
        with pytest.raises(TypeError):
            LOOK[0](*arguments)
    with pytest.raises(TypeError):
        resp.count_replies("+OK\r\n")  # type: ignore[arg-type]
