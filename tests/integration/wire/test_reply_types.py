"""Replies of every type of RESP2 and RESP3, as real servers send them, are counted at their last byte."""

import random
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from asynq_ttl.wire.commands import encode
from asynq_ttl.wire.replies import ReplyCounter, count_replies
from support.servers import Server, start_redis, start_valkey
from trials.fuzz.targets import decoded_replies, reference_replies

# What Redis itself has for this: one reply of each type.
TYPES = [b"string", b"integer", b"double", b"null", b"array", b"set", b"map", b"verbatim", b"true", b"false"]
# Redis 6.2 crashes when it is asked for these by a client of RESP2.
RESP3_TYPES = [b"attrib", b"push", b"bignum"]
MARKERS = {2: b"+-$:*", 3: b"+-$:,_*~%|>=#("}
# An array of arrays, an error among values, nothing at all, a string with a line end, a number beyond 64 bits.
LUA = [
    *(b"return {{}, {1, {2, 'x'}}, {err = 'ERR no'}, false}", b"return", b"return '\\r\\n'", b"return {err = 'ERR x'}"),
    *(b"redis.setresp(3); return redis.call('HGETALL', KEYS[1])", b"redis.setresp(3); return {double = 1.5}"),
    *(b"redis.setresp(3); return {map = {a = {set = {x = true}}}}", b"redis.setresp(3); return {true, false}"),
]


@pytest.fixture(scope="module", params=[start_redis, start_valkey])
def debugged(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each kind of server, with its commands for debugging."""
    start: Callable[..., AbstractContextManager[Server]] = request.param
    options = ("--enable-debug-command", "yes") if start is start_valkey else ()
    with start(*options) as server:
        yield server


def said(server: Server, protocol: int) -> list[bytes]:
    """Return what a server says to each command, one after the other."""
    commands = [(b"SET", b"k", b"v"), (b"HSET", b"h", b"a", b"1"), (b"GET", b"nothing"), (b"GET",)]
    commands += [(b"DEBUG", b"PROTOCOL", kind) for kind in (*TYPES, *(RESP3_TYPES if protocol == 3 else ()))]
    commands += [(b"EVAL", text, b"1", b"h") for text in LUA]
    commands += [(b"SUBSCRIBE", b"c"), (b"BLPOP", b"l", b"0.01")][: 2 if protocol == 3 else 0]
    replies = []
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(server.socket))
        for command in ((b"HELLO", b"%d" % protocol), *commands):
            connection.sendall(encode(command))
            connection.sendall(encode([b"ECHO", b"the end"]))
            reply = b""
            while not reply.endswith(b"$7\r\nthe end\r\n"):
                reply += connection.recv(65_536)
            replies.append(reply)
    return replies


@pytest.mark.parametrize("protocol", [2, 3])
def test_every_type_is_counted_at_its_last_byte(debugged: Server, protocol: int) -> None:
    """Byte by byte and at once, beside hiredis and the grammar; cut off anywhere, it is no reply yet."""
    replies = said(debugged, protocol)
    stream = b"".join(replies)
    for marker in MARKERS[protocol]:
        assert any(reply[:1] == b"%c" % marker or b"\r\n%c" % marker in reply for reply in replies), chr(marker)
    counter = ReplyCounter()
    counted = [sum(counter.feed(reply[at : at + 1]) for at in range(len(reply))) for reply in replies]
    assert not counter.lost
    for reply, count in zip(replies, counted, strict=True):
        # The answer to the command, unless a push is all there is, and the one that marks the end.
        assert count == 2 or (reply[:1] == b">" and count == 1), reply
        assert reference_replies(reply) == count
        assert decoded_replies(reply) in {None, count}
        assert count_replies(reply) in {0, count}
        assert ReplyCounter().feed(reply[:-1]) == count - 1
    assert ReplyCounter().feed(stream) == sum(counted)


@pytest.mark.parametrize("protocol", [2, 3])
def test_damaged_types_are_counted_as_the_grammar_has_it(debugged: Server, protocol: int) -> None:
    """Whatever byte of them changes: what is still well-formed is counted exactly, and cutting makes no difference."""
    source = random.Random(protocol)
    stream = b"".join(said(debugged, protocol))
    well_formed = 0
    for _ in range(800):
        data = bytearray(stream)
        for _ in range(source.choice((1, 1, 2))):
            data[source.randrange(len(data))] = source.choice(b"*$\r\n:0123-~x%>|=_#,(!+?")
        at_once, in_pieces = ReplyCounter(), ReplyCounter()
        count, size = at_once.feed(bytes(data)), source.choice((1, 3, 50))
        assert sum(in_pieces.feed(bytes(data[at : at + size])) for at in range(0, len(data), size)) == count
        expected = reference_replies(bytes(data))
        assert expected is None or (count, at_once.lost) == (expected, False)
        well_formed += expected is not None
    assert well_formed > 25


@pytest.mark.parametrize("streamed", [b"$?\r\n;4\r\nabcd\r\n;0\r\n", b"*?\r\n:1\r\n.\r\n", b"%?\r\n+a\r\n:1\r\n.\r\n"])
def test_streamed_values_end_the_counting(streamed: bytes) -> None:
    """No server sends what the specification calls streamed: nothing is counted then, rather than wrongly."""
    counter = ReplyCounter()
    assert count_replies(b"+OK\r\n" + streamed) == 0
    assert counter.feed(b"+OK\r\n" + streamed + b"+OK\r\n") == 1
    assert counter.lost
