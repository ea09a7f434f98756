"""What the framer takes for a command is a command to Redis and to Valkey, and the other way round."""

import socket
from itertools import cycle

import hiredis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asynq_ttl.wire.commands import Command, CommandFramer, WholeCommands, encode
from support.servers import Server

PING, ECHO = encode([b"PING"]), encode([b"ECHO", b"\r\n*1\r\n"])

EDGES = {
    "nothing": b"",
    "empty arrays": b"*0\r\n*0\r\n",
    "a null array": b"*-1\r\n",
    "a negative count": b"*-7\r\n",
    "an empty name": b"*1\r\n$0\r\n\r\n",
    "an unknown command": b"*2\r\n$3\r\nNOP\r\n$1\r\nx\r\n",
    "a signed count": b"*+1\r\n$4\r\nPING\r\n",
    "a count with a zero in front": b"*01\r\n$4\r\nPING\r\n",
    "minus nothing": b"*-0\r\n",
    "no count": b"*\r\n",
    "a count with a blank": b"* 1\r\n$4\r\nPING\r\n",
    "a count in hexadecimal": b"*0x1\r\n$4\r\nPING\r\n",
    "the largest count of 6.2": b"*1048576\r\n",
    "a count above that": b"*1048577\r\n",
    "the largest 32-bit count": b"*2147483647\r\n",
    "a count above that too": b"*2147483648\r\n",
    "a count of twenty digits": b"*99999999999999999999\r\n",
    "a count of forty digits": b"*" + b"9" * 40 + b"\r\n",
    "no length": b"*1\r\n$\r\n",
    "a null argument": b"*2\r\n$4\r\nECHO\r\n$-1\r\n",
    "a signed length": b"*1\r\n$+4\r\nPING\r\n",
    "a length with a zero in front": b"*1\r\n$04\r\nPING\r\n",
    "the largest length": b"*2\r\n$4\r\nECHO\r\n$536870912\r\n",
    "a length above that": b"*2\r\n$4\r\nECHO\r\n$536870913\r\n",
    "a length of ten digits": b"*2\r\n$4\r\nECHO\r\n$9999999999\r\n",
    "any two bytes for a line end": b"*1\r\n$4\r\nPINGxx",
    "the same, in an argument": b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\n\n",
    "any byte for a line feed": b"*1\rx$4\rxPING\r\n",
    "any bytes for all line ends": b"*1\rx$4\rxPINGxx",
    "line feeds alone": b"*1\n$4\nPING\n",
    "a length that is too short": b"*1\r\n$3\r\nPING\r\n",
    "a length that is too long": b"*1\r\n$6\r\nPING\r\n\r\n",
    "a simple string for a name": b"*1\r\n+PING\r\n",
    "a number for a name": b"*1\r\n:1\r\n",
    "a null for a name": b"*1\r\n_\r\n",
    "an error as an argument": b"*2\r\n$4\r\nECHO\r\n-ERR\r\n",
    "a verbatim string as an argument": b"*2\r\n$4\r\nECHO\r\n=6\r\ntxt:hi\r\n",
    "a nested array": b"*1\r\n*1\r\n$4\r\nPING\r\n",
    "a set": b"~1\r\n$4\r\nPING\r\n",
    "a map as an argument": b"*2\r\n$4\r\nECHO\r\n%1\r\n*0\r\n+a\r\n",
    "an attribute before a command": b"|1\r\n+a\r\n+b\r\n*1\r\n$4\r\nPING\r\n",
    "an attribute inside": b"*1\r\n|1\r\n+a\r\n+b\r\n$4\r\nPING\r\n",
    "an inline command": b"PING\r\n",
    "an inline command and a line feed": b"PING\n",
    "an inline command with quotes": b'ECHO "hi \\n"\r\n',
    "unbalanced quotes": b'ECHO "hi\r\n',
    "empty lines": b"\r\n\r\n\n",
    "the mark of the decoder": b":0\r\n",
    "the mark of the decoder and a beginning": b":0\r\n*2\r\n",
    "a TLS handshake": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.fixture(scope="module", params=["shared_redis", "shared_valkey"])
def target(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn."""
    chosen: Server = request.getfixturevalue(request.param)
    return chosen


def ask(server: Server, data: bytes) -> list[object]:
    """Send bytes to a server and return its replies until it has nothing more to say or hangs up; errors as text."""
    reader = hiredis.Reader()
    # No deadline of its own: a machine that stands still for some seconds is no difference; a hang ends the test.
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.socket))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65_536):
            reader.feed(chunk)
    replies: list[object] = []
    while reader.has_data():
        reply = reader.gets()
        replies.append(str(reply) if isinstance(reply, Exception) else reply)
    return replies


def refused(replies: list[object]) -> bool:
    """Say whether a server saw something it does not go on after."""
    return bool(replies) and str(replies[-1]).startswith("ERR Protocol error")


def frame(data: bytes, sizes: list[int]) -> tuple[CommandFramer, bytes, list[Command]]:
    """Frame bytes in chunks of the given sizes; return what was passed on and all commands that get a reply."""
    framer = CommandFramer(WholeCommands(), lambda _head, _size: True)
    out, position = b"", 0
    commands: list[Command] = []
    for size in cycle(sizes):
        if position >= len(data):
            break
        passed, found, _ = framer.feed(data[position : position + size])
        out, commands, position = out + passed, commands + found, position + size
    return framer, out, [command for command in commands if command]


def compare(server: Server, data: bytes, sizes: list[int]) -> None:
    """Compare what a server says to bytes with what the framer makes of them."""
    replies = ask(server, data)
    framer, out, commands = frame(data, sizes)
    if framer.held_bytes:
        # What is held is nothing that the server would reply to, be it by refusing it.
        assert ask(server, out) == replies
    exact = len(data) <= sizes[0] or sizes == [1]
    if exact or not refused(replies):
        assert len(replies) >= len(commands)
        assert framer.opaque or len(replies) == len(commands)
    else:
        # A chunk that holds nothing but a command the server refuses is reported; the server hangs up, but the
        # client may go on.
        assert framer.opaque or len(replies) <= len(commands)
    for command, reply in zip(commands, replies, strict=False):
        if command[:1] == [b"ECHO"] and len(command) == 2 and not isinstance(reply, str):
            assert reply == command[1]


@pytest.mark.parametrize("edge", EDGES.values(), ids=EDGES.keys())
def test_edges_are_framed_alike(target: Server, edge: bytes) -> None:
    """Alone, before, between and after commands, in one chunk and in many, the framer sees what the server sees."""
    for data in (edge, PING + edge, edge + PING, PING + ECHO + edge + ECHO + PING, edge + edge):
        for sizes in ([len(data) + 1], [1], [len(edge) + 1], [len(PING), 3]):
            compare(target, data, sizes)


@pytest.mark.parametrize("cut", range(len(ECHO + PING)))
def test_an_incomplete_command_is_framed_alike(target: Server, cut: int) -> None:
    """Wherever a stream ends, the framer has reported exactly what the server has replied to."""
    data = (ECHO + PING + ECHO)[: len(ECHO) + cut]
    for sizes in ([len(data) + 1], [1], [7]):
        compare(target, data, sizes)


_arguments = st.binary(max_size=6) | st.sampled_from([b"\r\n", b"*1\r\n", b"$1\r\na\r\n"])
_commands = st.sampled_from([PING, b"*0\r\n"]) | _arguments.map(lambda value: encode([b"ECHO", value]))
_scraps = st.sampled_from(
    [
        *(
            b"*",
            b"$",
            b"\r\n",
            b"\r",
            b"\n",
            b"0",
            b"1",
            b"4",
            b"-1",
            b"x",
            b" ",
            b"+",
            b":",
            b"_",
            b"~",
            b">",
            b"|",
            b"%",
        ),
        *(
            b"*1\r\n",
            b"*2\r\n",
            b"$4\r\n",
            b"PING",
            b"$4\r\nECHO\r\n",
            b"$1\r\nx\r\n",
            b"$-1\r\n",
            b":1\r\n",
            b"+a\r\n",
        ),
    ]
)
_damage = st.tuples(st.integers(0, 1000), st.integers(0, 3), _scraps | st.just(b""))


@pytest.mark.timeout(600)  # seconds on a quiet machine; what it says must not depend on how busy one is
@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(_commands, min_size=1, max_size=5).map(b"".join)
    | st.lists(_commands | _scraps, max_size=12).map(b"".join),
    st.lists(_damage, max_size=2),
    st.sampled_from([[10_000], [1], [5], [14], [3, 17]]),
)
def test_damaged_streams_are_framed_alike(
    target: Server, stream: bytes, damage: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    """There is no stream of bytes in which the framer sees other commands than the server does."""
    for position, length, piece in damage:
        at = position % (len(stream) + 1)
        stream = stream[:at] + piece + stream[at + length :]
    compare(target, stream, sizes)
