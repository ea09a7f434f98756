"""The same bytes to a server and, through a session, to another one: nobody may be able to tell the two apart.

What is compared, for any bytes in any chunks:

* everything that the client reads, byte for byte, up to the names of wrappers in error messages and client numbers;
  whoever tracks keys in RESP3 may be told more than once, or of one key more, that they have changed: a wrapper reads
  more of a task than its original does;
* the commands each server executed for the client (its own MONITOR says which), up to what a wrapper replaces;
* while a session says that it can count them: replies told, and replies read.

A session is without I/O, so the part of the relay is played here: it moves the bytes, and loads wrappers over a
connection of its own.
"""

import fcntl
import re
import select
import socket
import struct
import termios
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple
from unittest.mock import patch

import hiredis

import asynq_ttl.session.holding
import asynq_ttl.wire.commands
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Mode, Retention, Rule
from asynq_ttl.rewriting.registry import IMPOSSIBLE_SHA, Script, Status, sha_of
from asynq_ttl.wire.commands import HOLD_BYTES, MAX_HELD_BYTES, encode
from support.conversation import Conversation
from support.servers import Server
from trials.fuzz.mutations import HEADER_BYTES, SCRIPTS

# `keep` leaves scores alone, so that a wrapper changes TTLs and nothing else.
_KEEP = Rule("keep", completed=Retention(Keep.OWN), archived=Retention(Keep.OWN))
_ELSEWHERE = Rule("elsewhere", queues=(compile_glob("elsewhere"),), archived=Retention(Keep.TTL, 60))
_POLICIES = (
    *[(_KEEP, Mode.ENFORCE)] * 3,
    *((_KEEP, Mode.SHADOW), (_KEEP, Mode.OFF), (_ELSEWHERE, Mode.ENFORCE)),
)
_READ_BYTES = 256 * 1024
_WAIT_SECONDS = 60
_REFUSED = b"-ERR Protocol error"
_COMMENTS = re.compile(rb"\A(--[^\n]*\n)*")
_INVALIDATION = re.compile(rb">2\r\n\$10\r\ninvalidate\r\n(_\r\n|\*\d+\r\n(?:\$\d+\r\n[^\r]*\r\n)+)")
_SHAS = frozenset(map(sha_of, SCRIPTS))
_MONITORED = re.compile(rb"\+[\d.]+ \[(\d+) unix:[^\]]*\] (.*)\r\n")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')


class Manner(NamedTuple):
    """How a stream is sent.

    Attributes:
        sizes: the sizes of chunks, used over and over.
        reply_size: how many bytes of replies the session gets at once.
        small: whether the limits on what is held are small ones.
        policy: the rule and the mode.
    """

    sizes: tuple[int, ...]
    reply_size: int
    small: bool
    policy: tuple[Rule, Mode]


def read(data: bytes) -> tuple[Manner, bytes]:
    """Take an input apart: three bytes that say how it is sent, and the stream."""
    cut, how, policy = data[:HEADER_BYTES].ljust(HEADER_BYTES, b"\0")
    size = (cut & 0x7F) + 1
    sizes = ((size,), (1 << 30,), (size, 1 << 30), (size, 3))[how & 3]
    reply_size = (_READ_BYTES, 1, 7, 100)[how >> 2 & 3]
    return Manner(sizes, reply_size, bool(how & 16), _POLICIES[policy % len(_POLICIES)]), data[HEADER_BYTES:]


def cut(data: bytes, sizes: tuple[int, ...]) -> Iterator[bytes]:
    """Cut a stream into chunks of the given sizes; the last of them is used over and over."""
    at, number = 0, 0
    while at < len(data):
        size = sizes[min(number, len(sizes) - 1)]
        yield data[at : at + size]
        at, number = at + size, number + 1


class Side:
    """One of the two servers, and the client's connection to it."""

    def __init__(self, server: Server, *, watch: bool) -> None:
        self.server = server
        self._watch = watch
        self._control = _Caller(socket.create_connection(("127.0.0.1", server.port)))
        self._monitor = socket.create_connection(("127.0.0.1", server.port))
        self._monitor.settimeout(_WAIT_SECONDS)
        if watch:
            self._monitor.sendall(encode([b"MONITOR"]))
            assert self._monitor.recv(5) == b"+OK\r\n"
        self._number = 0
        self._client = socket.socket(socket.AF_UNIX)
        self.received = b""
        self.ended = False
        """Whether the server has hung up."""

    def begin(self) -> None:
        """Empty the server and connect anew."""
        for command in (b"FLUSHALL",), (b"SCRIPT", b"FLUSH"):
            self.ask(*command)
        self.executed()
        self._client.close()
        self._client = socket.socket(socket.AF_UNIX)
        self._client.connect(str(self.server.socket))
        self._client.setblocking(False)
        self.received, self.ended = b"", False

    def close(self) -> None:
        """Close all connections."""
        for connection in (self._client, self._monitor, self._control.connection):
            connection.close()

    def ask(self, *command: bytes) -> object:
        """Send a command over the control connection and return the reply; an error is one as well."""
        return self._control.ask(*command)

    def send(self, data: bytes) -> None:
        """Send bytes of the client, and read what comes in the meantime."""
        rest = memoryview(data)
        while rest and not self.ended:
            try:
                rest = rest[self._client.send(rest) :]
            except BlockingIOError:
                select.select([self._client], [self._client], [], _WAIT_SECONDS)
            except OSError:
                break
            self._take()
        self._take()

    def settle(self) -> None:
        """Wait until the server has seen all that was sent, and has replied to it."""
        while not self.ended and struct.unpack("i", fcntl.ioctl(self._client, termios.TIOCOUTQ, b"\0" * 4))[0]:
            select.select([self._client], [], [], 0.001)
            self._take()
        # Within one round a server reads from every connection and then writes to every one.
        for _ in range(2):
            self.ask(b"PING")
            self._take()

    def end(self) -> None:
        """Say that no more comes, and read to the end."""
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)
        while not self.ended:
            assert select.select([self._client], [], [], _WAIT_SECONDS)[0], "the server does not hang up"
            self._take()

    def _take(self) -> None:
        """Take what there is to read."""
        while not self.ended:
            try:
                data = self._client.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it hung up without having read all: that is an end as well
                data = b""
            self.received += data
            self.ended = not data

    def executed(self) -> list[tuple[bytes, ...]]:
        """Return the commands that the server has executed for the client since it was asked last.

        Each is the number of the database, and the arguments as MONITOR quotes them.
        """
        if not self._watch:
            return []
        self._number += 1
        mark = b"mark %d" % self._number
        self.ask(b"ECHO", mark)
        seen = bytearray()
        while not seen.endswith(b'"ECHO" "%b"\r\n' % mark):
            seen += self._monitor.recv(_READ_BYTES)
        return [(number, *_QUOTED.findall(rest)) for number, rest in _MONITORED.findall(bytes(seen))]


class _Caller:
    """A connection on which one command follows the other."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.settimeout(_WAIT_SECONDS)
        self._reader = hiredis.Reader(notEnoughData=self)

    def ask(self, *command: bytes) -> object:
        self.connection.sendall(encode(command))
        while (reply := self._reader.gets()) is self:
            self._reader.feed(self.connection.recv(_READ_BYTES))
        return reply


class Twins:
    """Two empty servers of one kind, one of them behind a session.

    Args:
        direct: the one that clients speak to.
        behind: the other one.
        watch: whether what they execute is compared too. Telling it takes a server 100 ns for each byte.
    """

    def __init__(self, direct: Server, behind: Server, *, watch: bool = True) -> None:
        self._direct, self._behind = Side(direct, watch=watch), Side(behind, watch=watch)
        self._told = 0
        self._asked_for_text = self._activated = self._odd_script = False

    def close(self) -> None:
        """Close all connections."""
        self._direct.close()
        self._behind.close()

    def compare(self, data: bytes) -> None:
        """Send an input to both, and fail where a client could tell them apart."""
        manner, stream = read(data)
        hold, most = (64, 1024) if manner.small else (HOLD_BYTES, MAX_HELD_BYTES)
        with (
            patch.multiple(asynq_ttl.wire.commands, HOLD_BYTES=hold, MAX_HELD_BYTES=most),
            patch.multiple(asynq_ttl.session.holding, HOLD_BYTES=hold, MAX_HELD_BYTES=most),
        ):
            try:
                self._compare(stream, manner)
            except AssertionError:
                if not (self._odd_script or self._differ_by_knowledge()):
                    raise
                self._compare(stream, manner._replace(policy=(_KEEP, Mode.OFF)))

    def _differ_by_knowledge(self) -> bool:
        """Say whether the two differ in whether a script is known: the one difference there may be.

        What was not learnt, as it was too large, and concerns a terminal state is answered NOSCRIPT, so that the client
        sends the text (decision 0004). What was learnt is loaded before its first use, even if Redis then refuses that
        very call or has forgotten the script since; so it is there when it is called by its SHA. Where nothing is
        rewritten there is neither, and no difference at all.
        """
        there, here = (Counter(side.received.split(b"\r\n")) for side in (self._direct, self._behind))
        unknown_there, unknown_here = (
            any(line.startswith(b"-NOSCRIPT") for line in lines) for lines in (there - here, here - there)
        )
        quiet = there == here  # the client has turned replies off
        return (self._asked_for_text and (unknown_here or quiet)) or (self._activated and (unknown_there or quiet))

    def _compare(self, stream: bytes, manner: Manner) -> None:
        rule, mode = manner.policy
        talk = Conversation(rule, mode=mode)
        self._asked_for_text = self._activated = self._odd_script = False
        for side in (self._direct, self._behind):
            side.begin()
        self._told = 0
        for chunk in cut(stream, manner.sizes):
            self._direct.send(chunk)
            self._relay(talk, chunk, manner.reply_size)
        for side in (self._direct, self._behind):
            side.settle()
        # A damaged text may leave ghosts, which wrappers rightly drop.
        odd = (_COMMENTS.sub(b"", script.text) not in SCRIPTS for script in talk.registry.wrapped())
        self._odd_script = any(odd) or not _SHAS.issuperset(talk.registry.untouched)
        self._tell(talk, manner.reply_size)
        hung_up = self._direct.ended or self._behind.ended
        for side in (self._direct, self._behind):
            side.end()
        there, here = self._direct.received, _unwrapped(self._behind.received, talk)
        assert set(_INVALIDATION.findall(there)) <= set(_INVALIDATION.findall(here))
        assert _comparable(there) == _comparable(here)
        _same_commands(self._direct.executed(), self._behind.executed(), talk)
        if talk.session.counting and not hung_up:
            assert talk.session.replies == _replies(self._direct.received)
            # A client that waits for an element gets no reply.
            blocked = b"BLPOP" in stream.upper() or talk.session.held_bytes or talk.session.busy
            assert talk.session.replies == talk.session.commands or blocked
        talk.session.close()
        assert talk.session.pending == talk.shared.room.taken_bytes == 0

    def _relay(self, talk: Conversation, chunk: bytes, reply_size: int) -> None:
        """Play the part of the relay: pass on what a session makes of a chunk, and load wrappers."""
        session = talk.session
        self._pass(session.receive_downstream(chunk))
        while session.waiting_for is not None:
            self._activated = True
            self._behind.settle()
            self._activate(session.waiting_for)
            self._pass(session.resume())
        assert session.held_bytes <= asynq_ttl.wire.commands.MAX_HELD_BYTES + len(chunk)
        session.give_back()
        small = asynq_ttl.wire.commands.HOLD_BYTES
        assert session.held_bytes <= max(session.holding.taken_bytes, small)
        self._tell(talk, reply_size)

    def _pass(self, data: bytes) -> None:
        self._asked_for_text = self._asked_for_text or IMPOSSIBLE_SHA in data
        self._behind.send(data)

    def _activate(self, script: Script) -> None:
        """Load a script and its wrapper, as `upstream.ControlConnection` does."""
        script.status = Status.ACTIVE
        script.flushed = False
        for text in (script.text, script.wrapper):
            if isinstance(self._behind.ask(b"SCRIPT", b"LOAD", text), Exception):
                script.status = Status.BROKEN
                return

    def _tell(self, talk: Conversation, reply_size: int) -> None:
        """Let the session see the replies that have come."""
        received = self._behind.received
        for at in range(self._told, len(received), reply_size):
            talk.session.receive_upstream(received[at : at + reply_size])
        self._told = len(received)


def _unwrapped(replies: bytes, talk: Conversation) -> bytes:
    """Name scripts in error messages by what the client calls them."""
    for script in talk.registry.wrapped():
        replies = replies.replace(script.wrapper_sha, script.sha)
    return replies


def _comparable(replies: bytes) -> list[bytes]:
    """Return the lines of replies without what differs from one server to the next, such as a client's number."""
    # Why it refuses a line without an end depends on how much of it a server has read at once.
    lines = _INVALIDATION.sub(b"", replies).split(b"\r\n")
    lines = [line[: len(_REFUSED)] if line.startswith(_REFUSED) else line for line in lines]
    lines = [
        b":0" if before == b"id" and line[:1] == b":" else line
        for before, line in zip([b"", *lines], lines, strict=False)
    ]
    # Who leaves all channels is told in an order of the server's own.
    return sorted(lines) if b"unsubscribe" in replies else lines


def _replies(received: bytes) -> int:
    """Count replies as hiredis does; pushes are none."""
    reader = hiredis.Reader(notEnoughData=_NOTHING)
    reader.feed(received)
    count = 0
    while (reply := reader.gets()) is not _NOTHING:
        count += not isinstance(reply, hiredis.PushNotification)
    return count


def _same_commands(direct: list[tuple[bytes, ...]], behind: list[tuple[bytes, ...]], talk: Conversation) -> None:
    """Fail unless both servers executed the same commands, up to what calls a wrapper."""
    wrappers = {}
    for script in talk.registry.wrapped():
        wrappers[script.sha], wrappers[_quoted(script.text)] = script.wrapper_sha, _quoted(script.wrapper)
    assert len(direct) == len(behind), (direct, behind)
    for there, here in zip(direct, behind, strict=True):
        if there != here:
            called = {wrappers.get(there[2]), wrappers.get(there[2].lower()), IMPOSSIBLE_SHA}
            assert here[2] in called, (there, here)
            # The wrapper may have an argument of its own at the end.
            assert (there[:2], there[3:]) == (here[:2], here[3 : len(there)]), (there, here)
            assert len(here) - len(there) in {0, 1}, (there, here)


def _quoted(text: bytes) -> bytes:
    """Quote an argument as MONITOR does."""
    return b"".join(_ESCAPES.get(byte) or (b"%c" % byte if 32 <= byte < 127 else b"\\x%02x" % byte) for byte in text)


_NOTHING = object()
_ESCAPES = {
    ord(plain): escape
    for plain, escape in zip('\\"\n\r\t\a\b', (rb"\\", rb"\"", rb"\n", rb"\r", rb"\t", rb"\a", rb"\b"), strict=True)
}
