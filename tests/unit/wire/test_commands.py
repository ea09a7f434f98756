import time
from collections.abc import Callable, Iterator

import pytest

import asynq_ttl.wire.commands
from asynq_ttl.wire.commands import HOLD_BYTES, Command, CommandFramer, WholeCommands, encode

PING = encode([b"PING"])
GET = encode([b"GET", b"key"])

# What Redis takes in another form, refuses, or reads as an inline command; none of it is a plain command.
NOT_PLAIN = {
    "an inline command": b"PING\r\n",
    "an empty line": b"\r\n",
    "a request of another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "no count": b"*\r\n",
    "a count that is no number": b"*x\r\n$4\r\nPING\r\n",
    "a count with a sign": b"*+1\r\n$4\r\nPING\r\n",
    "a count with a leading zero": b"*01\r\n$4\r\nPING\r\n",
    "a null array": b"*-1\r\n",
    "a count below that": b"*-2\r\n",
    "a count some Redis refuses": b"*1048577\r\n",
    "a count no Redis takes": b"*2147483648\r\n",
    "a count of more digits than any number has": b"*" + b"9" * 40,
    "no length": b"*1\r\n$\r\n",
    "a length that is no number": b"*1\r\n$x\r\n",
    "a null as an argument": b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    "a length with a leading zero": b"*1\r\n$04\r\nPING\r\n",
    "a length Redis refuses": b"*1\r\n$536870913\r\n",
    "a count whose line does not end": b"*1                                ",
    "a line without a line feed": b"*1\rX$4\rXPING\rX",
    "a length without a line feed": b"*1\r\n$1\rXP\rX",
    "an argument longer than it says": b"*1\r\n$3\r\nPING\r\n",
    "a nested command": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "a number as an argument": b"*2\r\n$4\r\nECHO\r\n:1\r\n",
    "an error as an argument": b"*2\r\n$4\r\nECHO\r\n-ERR\r\n",
}
not_plain = pytest.mark.parametrize("garbage", NOT_PLAIN.values(), ids=NOT_PLAIN.keys())


def chunks(data: bytes, step: int) -> Iterator[bytes]:
    """Cut bytes into pieces of the same size."""
    return (data[at : at + step] for at in range(0, len(data), step))


def never(_head: Command, _size: int) -> bool:
    """Hold no large command."""
    return False


def always(_head: Command, _size: int) -> bool:
    """Hold every command."""
    return True


def framer(must_hold: Callable[[Command, int], bool] = never) -> CommandFramer:
    """Return a framer that has seen nothing yet."""
    return CommandFramer(WholeCommands(), must_hold)


def feed(to: CommandFramer, data: bytes, step: int = 0) -> tuple[bytes, list[Command]]:
    """Feed bytes in pieces; return all that was passed on, and all commands."""
    out, commands = b"", []
    for chunk in chunks(data, step or len(data)):
        passed, found, _ = to.feed(chunk)
        out += passed
        commands += found
    return out, commands


# --- encoding ---------------------------------------------------------------------------------------------------


def test_a_command_is_encoded_as_an_array_of_bulk_strings() -> None:
    """Lengths count bytes; what is in them does not matter."""
    assert encode([b"SET", b"", b"\r\n\xff"]) == b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$3\r\n\r\n\xff\r\n"


# --- whole chunks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "commands",
    [
        [[b"PING"]],
        [[]],
        [[b"GET", b"\r\n*1\r\n$4\r\nPING\r\n"]],
        [[b"PING"], [], [b"GET", b"key"]],
        [[b"ECHO", b"2 * 3 > 1 | ~"], [b"ECHO", b"> ~ | *12345"]],
        [[b"DEL", *(b"%d" % number for number in range(500))]],
    ],
)
def test_whole_commands_are_decoded(commands: list[Command]) -> None:
    """A chunk that holds whole commands and nothing else is decoded in one go."""
    assert WholeCommands().decode(b"".join(encode(command) for command in commands)) == commands


@pytest.mark.parametrize("end", range(1, len(GET)))
def test_a_chunk_that_ends_inside_a_command_is_not_whole(end: int) -> None:
    """Wherever a command is cut, alone or after another, the chunk is left to the framer."""
    whole = WholeCommands()
    assert whole.decode(GET[:end]) is None
    assert whole.decode(PING + GET[:end]) is None
    assert whole.decode(GET) == [[b"GET", b"key"]]


@pytest.mark.parametrize("chunk", [b"", b"P", b"*", b":0\r\n", b"*1\r\n$4\r\nPING\r\n:0\r\n", PING + b":0\r\n" + PING])
def test_a_chunk_with_anything_else_is_not_whole(chunk: bytes) -> None:
    """Nothing but commands makes a whole chunk, not even what the decoder itself feeds to find the end."""
    assert WholeCommands().decode(chunk) is None


@pytest.mark.parametrize(
    "odd",
    [b"*1\r\n+PING\r\n", b"*1\r\n:1\r\n", b"*1\r\n-ERR\r\n", b"*1\r\n$4\r\nPINGxx", b"*1\r\n=8\r\ntxt:PING\r\n"],
)
def test_several_commands_are_decoded_only_in_their_plain_form(odd: bytes) -> None:
    """Among several commands none may be in a form that is not the plain one, whatever it decodes to."""
    assert WholeCommands().decode(odd + PING) is None
    assert WholeCommands().decode(PING + odd) is None


@pytest.mark.parametrize(
    "poison",
    [
        PING + b":0\r\n*2\r\n",
        PING + b":0\r\n$9\r\nab",
        b"*1\r\n%1\r\n*0\r\n:1\r\n",
        b"*2\r\n$3\r\nGET\r\n",
        b"*x\r\n",
    ],
)
def test_one_connection_never_gets_another_ones_bytes(poison: bytes) -> None:
    """Whatever a chunk leaves in the decoder that all connections share, the next chunk is decoded by itself."""
    whole = WholeCommands()
    assert whole.decode(poison) is None
    assert whole.decode(GET) == [[b"GET", b"key"]]


@pytest.mark.parametrize("marker", [b"*", b"~", b">", b"|"])
@pytest.mark.parametrize("count", [100_000, 2_147_483_647, 4_294_967_295, 10**18])
@pytest.mark.parametrize("before", [b"*2\r\n", PING, b"*1\r\n$1\r\naxx"])
def test_a_huge_count_costs_no_memory_and_no_time(before: bytes, marker: bytes, count: int) -> None:
    """No room is made for values that are only announced, wherever in a chunk they are."""
    start = time.process_time()
    assert WholeCommands().decode(before + marker + b"%d\r\n" % count) is None
    assert time.process_time() - start < 0.1


def test_a_huge_count_at_the_very_beginning_costs_no_memory_and_no_time() -> None:
    """The first header of a chunk is no exception."""
    start = time.process_time()
    assert WholeCommands().decode(b"*2147483647\r\n$4\r\nPING\r\n") is None
    assert time.process_time() - start < 0.1


# --- commands ---------------------------------------------------------------------------------------------------

STREAM = [[b"PING"], [b"SET", b"key", b"\r\n$4\r\n"], [], [b""], [b"GET", b"k" * 300]]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 10_000])
def test_commands_are_framed_in_pieces_of_any_size(step: int) -> None:
    """Every command is reported once, in order, and every byte is passed on."""
    data = b"".join(encode(command) for command in STREAM)
    to = framer()
    assert feed(to, data, step) == (data, STREAM)
    assert to.held_bytes == 0
    assert not to.opaque


def test_a_whole_chunk_is_passed_on_as_it_is() -> None:
    """Where nothing is held, the very object that came in goes out."""
    chunk = PING + GET
    assert framer().feed(chunk)[0] is chunk


@pytest.mark.parametrize("cut", range(1, len(GET)))
def test_an_incomplete_command_is_held(cut: int) -> None:
    """Commands before it go at once; it goes when its end is there, with what comes after."""
    to = framer()
    assert to.feed(PING + GET[:cut]) == (PING, [[b"PING"]], 0)
    assert to.held_bytes == cut
    assert to.feed(GET[cut:] + PING) == (GET + PING, [[b"GET", b"key"], [b"PING"]], 0)
    assert to.held_bytes == 0


def test_a_long_argument_is_waited_for_without_being_looked_at() -> None:
    """While the length says how much is to come, pieces are only put together."""
    to = framer()
    data = encode([b"SET", b"key", b"v" * 1000])
    assert feed(to, data[:-1], 10) == (b"", [])
    assert to.held_bytes == len(data) - 1
    assert to.feed(data[-1:]) == (data, [[b"SET", b"key", b"v" * 1000]], 0)


@pytest.mark.parametrize("step", [0, 1, 2, 3, 5])
@not_plain
def test_what_is_no_plain_command_makes_a_connection_opaque(garbage: bytes, step: int) -> None:
    """Commands before it are reported; it and all that follows is passed on unseen, nothing is held."""
    data = PING + PING + garbage
    to = framer()
    assert feed(to, data, step) == (data, [[b"PING"], [b"PING"]])
    assert to.opaque
    assert to.held_bytes == 0
    assert feed(to, PING, step) == (PING, [])


@not_plain
def test_garbage_at_the_beginning_is_passed_on(garbage: bytes) -> None:
    """Alone in its chunk, garbage is either not reported or what Redis will refuse; no byte of it is held."""
    to = framer()
    assert to.feed(garbage)[0] == garbage
    assert to.held_bytes == 0


@pytest.mark.parametrize("header", [b"*", b"*1", b"*1\r", b"*1\r\n", b"*1\r\n$", b"*1\r\n$4", b"*1\r\n$4\r"])
def test_an_incomplete_header_is_waited_for(header: bytes) -> None:
    """A header that can still become a plain one is held."""
    to = framer()
    assert to.feed(header) == (b"", [], 0)
    assert not to.opaque
    assert to.held_bytes == len(header)


def test_an_empty_chunk_changes_nothing() -> None:
    """No bytes in, no bytes out."""
    assert framer().feed(b"") == (b"", [], 0)


# --- large commands ---------------------------------------------------------------------------------------------

LARGE = encode([b"SET", b"key", b"v" * 100_000, b"w" * 70_000, b"EX", b"5"])


@pytest.mark.parametrize("step", [1000, 4096, HOLD_BYTES - 1, HOLD_BYTES, 100_003, 10**6])
def test_a_large_command_is_let_through_in_pieces(step: int) -> None:
    """Past the limit its bytes go on; it is reported by its name, once, and what follows is framed."""
    to = framer()
    out, commands = feed(to, PING + LARGE + GET, step)
    assert out == PING + LARGE + GET
    assert commands in (
        [[b"PING"], [b"SET"], [b"GET", b"key"]],
        [[b"PING"], [b"SET", b"key", b"v" * 100_000, b"w" * 70_000, b"EX", b"5"], [b"GET", b"key"]],
    )
    assert not to.passing


def test_no_more_than_the_limit_is_held_of_a_command_that_may_pass() -> None:
    """The command passes once the limit is reached, however long its argument is."""
    to = framer()
    most = 0
    for chunk in chunks(LARGE, 1000):
        to.feed(chunk)
        most = max(most, to.held_bytes)
    assert most < HOLD_BYTES


@pytest.mark.parametrize("cut", [*range(100_022, 100_040), *range(len(LARGE) - 20, len(LARGE))])
def test_a_large_command_may_be_cut_anywhere_while_it_passes(cut: int) -> None:
    """A header or a line end that a chunk cuts in two is put together again."""
    to = framer()
    assert to.feed(LARGE[:HOLD_BYTES]) == (LARGE[:HOLD_BYTES], [[b"SET"]], 0)
    assert to.passing
    assert to.feed(LARGE[HOLD_BYTES:cut]) == (LARGE[HOLD_BYTES:cut], [], 0)
    assert to.passing
    assert to.feed(LARGE[cut:]) == (LARGE[cut:], [], 0)
    assert not to.passing
    assert to.feed(GET) == (GET, [[b"GET", b"key"]], 0)


def test_commands_in_the_chunk_that_ends_a_large_one_are_framed() -> None:
    """They are reported with where the first of them starts; an incomplete one is held."""
    to = framer()
    to.feed(LARGE[:HOLD_BYTES])
    rest = LARGE[HOLD_BYTES:]
    assert to.feed(rest + PING + GET[:9]) == (rest + PING, [[b"PING"]], len(rest))
    assert to.feed(GET[9:]) == (GET, [[b"GET", b"key"]], 0)


def test_a_large_command_without_a_complete_name_is_reported_too() -> None:
    """Redis replies to it like to any other, so it counts; its name is left empty."""
    to = framer()
    data = encode([b"x" * 2 * HOLD_BYTES])
    assert to.feed(data[:HOLD_BYTES]) == (data[:HOLD_BYTES], [[b""]], 0)
    assert to.feed(data[HOLD_BYTES:]) == (data[HOLD_BYTES:], [], 0)


@pytest.mark.parametrize("garbage", [b"*1\r\n", b"$x\r\n", b"$5\n", b"$" + b"1" * 40, b"\r\n", b"$536870913\r\n"])
@pytest.mark.parametrize("step", [0, 1, 7])
def test_garbage_inside_a_passing_command_makes_the_connection_opaque(garbage: bytes, step: int) -> None:
    """All of it is passed on, and so is what follows."""
    to = framer()
    to.feed(LARGE[:HOLD_BYTES])
    rest = LARGE[HOLD_BYTES : 100_000 + len(b"*6\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100000\r\n\r\n")]
    assert feed(to, rest + garbage, step) == (rest + garbage, [])
    assert to.opaque
    assert not to.passing
    assert feed(to, GET, step) == (GET, [])


def test_a_large_command_that_must_be_seen_whole_is_held() -> None:
    """It is asked for at the limit with what is known of it, and when it has doubled, and then reported whole."""
    asked: list[tuple[Command, int]] = []

    def must_hold(head: Command, size: int) -> bool:
        asked.append((list(head), size))
        return True

    to = framer(must_hold)
    data = encode([b"EVAL", b"text", b"v" * 200_000])
    assert feed(to, data[:-1], 30_000) == (b"", [])
    assert asked == [([b"EVAL", b"text"], 90_000), ([b"EVAL", b"text"], 180_000)]
    assert to.feed(data[-1:]) == (data, [[b"EVAL", b"text", b"v" * 200_000]], 0)
    assert len(asked) == 2


def test_a_command_is_asked_about_again_as_more_of_it_is_known() -> None:
    """What has to be held until its arguments are known need not be held after that."""
    to = framer(lambda head, _size: len(head) < 2)
    data = encode([b"EVALSHA", b"s" * 70_000, b"v" * 100_000])
    assert to.feed(data[:69_000]) == (b"", [], 0)
    assert to.feed(data[69_000:71_000]) == (data[:71_000], [[b"EVALSHA"]], 0)
    assert to.feed(data[71_000:]) == (data[71_000:], [], 0)
    assert not to.passing


def test_what_is_held_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second limit it is asked once more whether a command must be seen whole."""
    monkeypatch.setattr(asynq_ttl.wire.commands, "MAX_HELD_BYTES", 3 * HOLD_BYTES)
    to = framer(lambda _head, size: size < 3 * HOLD_BYTES)
    data = encode([b"EVAL", b"x" * 5 * HOLD_BYTES, b"0"])
    most = 0
    out: bytes = b""
    commands: list[Command] = []
    for chunk in chunks(data, 5000):
        passed, found, _ = to.feed(chunk)
        out, commands = out + passed, commands + found
        most = max(most, to.held_bytes)
    assert (out, commands) == (data, [[b"EVAL"]])
    assert 2 * HOLD_BYTES < most < 3 * HOLD_BYTES


def test_many_small_arguments_are_framed_in_small_pieces() -> None:
    """A command of thousands of arguments is put together argument by argument, each of them read once."""
    command = [b"DEL", *(b"key:%d" % number for number in range(3000))]
    to = framer(always)
    assert feed(to, encode(command), 5) == (encode(command), [command])
