"""What is fuzzed, each as a function of bytes that fails when an invariant does not hold. Needs no fuzzer itself.

The first byte says how the rest is cut into chunks.
"""

import re
from collections.abc import Callable

import hiredis

from asynq_ttl.asynq import _message
from asynq_ttl.asynq.message import decode
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Retention, Rule
from asynq_ttl.rewriting.registry import ScriptRegistry, Status
from asynq_ttl.session import _fast_path
from asynq_ttl.session.fast_path import Memory, Recalled, beginning_of, numkeys
from asynq_ttl.wire import _resp
from asynq_ttl.wire.commands import HOLD_BYTES, Command, CommandFramer, WholeCommands, _encode, _huge
from asynq_ttl.wire.replies import ReplyCounter, _count_replies
from support.conversation import Conversation
from support.small_scripts import COMPLETE, DEQUEUE, RUN_ONE

# hiredis makes room for what a header announces: not for twenty bytes of input.
_HUGE = re.compile(rb"[*~>%|]\+?\d{5}")
_LONE = re.compile(rb"(?<!\r)\n|\r(?!\n)")
# As Redis reads them: whatever comes after the CR is taken for the LF.
_PLAIN = re.compile(rb"\*(0|[1-9]\d{0,5})\r.", re.DOTALL)
_BULK = re.compile(rb"\$(0|[1-9]\d{0,8})\r.", re.DOTALL)


def chunks(data: bytes) -> list[bytes]:
    """Cut bytes as their first one says: into pieces of one size, or into two of which the first has that size."""
    if not data:
        return []
    size, rest = (data[0] & 0x7F) + 1, data[1:]
    if data[0] & 0x80:
        return [piece for piece in (rest[:size], rest[size:]) if piece]
    return [rest[at : at + size] for at in range(0, len(rest), size)]


def reference(data: bytes) -> list[Command]:
    """Return the commands at the beginning of a stream as Redis reads them; stops where it would refuse one."""
    commands: list[Command] = []
    at = 0
    while found := _PLAIN.match(data, at):
        at = found.end()
        command: Command = []
        for _ in range(int(found[1])):
            bulk = _BULK.match(data, at)
            end = bulk.end() + int(bulk[1]) if bulk else len(data)
            if not bulk or end + 2 > len(data):  # any two bytes end it
                return commands
            command.append(data[bulk.end() : end])
            at = end + 2
        commands.append(command)
    return commands


def commands(data: bytes) -> None:
    """No byte is lost, added or moved; no command is reported that Redis would not see; what is held is bounded."""
    stream = data[1:]
    framer = CommandFramer(WholeCommands(), lambda _head, _size: False)
    out, found = b"", []
    for chunk in chunks(data):
        passed, more, _ = framer.feed(chunk)
        out += passed
        found += more
        assert framer.held_bytes <= HOLD_BYTES
    assert stream.startswith(out)
    assert len(out) + framer.held_bytes == len(stream)
    plain = reference(stream)
    # One with an element that is no bulk string may be reported: Redis refuses it and hangs up, so nothing follows.
    refused = next((number for number, told in enumerate(found) if not all(type(part) is bytes for part in told)), None)
    if framer.opaque or framer.passing or refused is not None:
        # Commands before the oddity are the same. (Of those let through in pieces only the name is told.)
        for told, there in zip(found[:refused], plain, strict=False):
            assert told in (there, there[:1], [b""])
    else:
        assert [command for command in found if command] == [command for command in plain if command]


def chunk(data: bytes) -> None:
    """The compiled part says of any bytes what the plain one says, and that is what looking closer gives."""
    stream = data[1:]
    told = _fast_path.recall(stream, _SPECIAL, {}, {}, {})
    plain_recall = Memory(ScriptRegistry(), WholeCommands())._recall
    framer = CommandFramer(WholeCommands(), lambda _head, _size: False)
    out, found, _ = framer._feed_slowly(stream)
    expected: Recalled = None
    if out == stream and found and all(found) and not framer.opaque:
        special = any(command[0].upper() in _SPECIAL for command in found)
        expected = len(found) if not special else (found[0], numkeys(found[0])) if len(found) == 1 else None
    # What might make hiredis make room for too much is not decoded, wherever it stands.
    assert plain_recall(stream, _SPECIAL, {}, {}, {}) == (None if _huge(stream) else expected)
    assert told == (expected if all(len(command) <= _MOST_ARGUMENTS for command in found) else None)
    if isinstance(told, tuple) and isinstance(told[0], list) and not _huge(stream):
        command = told[0]
        assert _resp.encode(command) == _encode(command) == stream
        # What is remembered of some first part of it counts where that is all up to the last of the KEYS.
        for elements in range(len(command) + 1):
            polls = {beginning_of(stream, command, elements): b"instead"}
            recalled = _fast_path.recall(stream, _SPECIAL, {}, polls, {})
            assert recalled == plain_recall(stream, _SPECIAL, {}, polls, {})
        untouched = dict.fromkeys(command[1:2])
        recalled = _fast_path.recall(stream, _SPECIAL, untouched, {}, {})
        assert recalled == plain_recall(stream, _SPECIAL, untouched, {}, {})
    count, plain = _resp.count_replies(stream), _count_replies(stream)
    # Without the compiled part only a lone reply is told.
    assert plain == (count if count == 1 else 0)
    if count:
        counter = ReplyCounter()
        assert counter.feed(stream) == count
        assert counter.between


_SPECIAL = frozenset((b"EVALSHA", b"EVAL", b"A"))
_MOST_ARGUMENTS = 99


def replies(data: bytes) -> None:
    """Cutting makes no difference; what is well-formed is counted exactly, and as hiredis counts it."""
    stream = data[1:]
    at_once, in_pieces = ReplyCounter(), ReplyCounter()
    count = at_once.feed(stream)
    assert sum(in_pieces.feed(chunk) for chunk in chunks(data)) == count
    assert in_pieces.lost == at_once.lost
    expected = reference_replies(stream)
    if expected is None:
        return
    assert (count, at_once.lost) == (expected, False)
    decoded = decoded_replies(stream)
    assert decoded in {None, expected}


def reference_replies(stream: bytes) -> int | None:
    """Count the whole replies at the beginning of a stream, by the grammar; None where it is not well-formed.

    Pushes are no replies, and attributes belong to what follows them.
    """
    at, count = 0, 0
    try:
        while at < len(stream):
            push, at = stream[_value(stream, at, attributes=True)] == ord(">"), _value(stream, at)
            count += not push
    except EOFError:
        return count
    except ValueError:
        return None
    return count


def _value(stream: bytes, at: int, *, attributes: bool = False, depth: int = 0) -> int:
    """Return where the value at a place ends; or, with `attributes`, where it begins after its attributes.

    Raises:
        EOFError: it is not whole.
        ValueError: it is not well-formed.
    """
    line = _LINE.match(stream, at)
    if line is None:
        if b"\n" in stream[at:] or depth > _DEEPEST:
            raise ValueError
        raise EOFError
    marker, number = line[1], line[2]
    if attributes and marker != b"|":
        return at
    at = line.end()
    if marker in b"+-:_#,(":
        return at
    if not _NUMBER.fullmatch(number) or depth > _DEEPEST:
        raise ValueError
    if marker in b"$=!":
        end = at + int(number) + 2
        if int(number) < 0:
            return at
        if end > len(stream):
            raise EOFError
        if stream[end - 2 : end] != b"\r\n":
            raise ValueError
        return end
    for _ in range(int(number) * (2 if marker in b"%|" else 1)):
        at = _value(stream, at, depth=depth + 1)
    return at if marker != b"|" else _value(stream, at, attributes=attributes, depth=depth + 1)


_LINE = re.compile(rb"([-+:_#,($=!*~%>|])([^\r\n]*)\r\n")
_NUMBER = re.compile(rb"0|-1|[1-9]\d{0,4}")
_DEEPEST = 50


def decoded_replies(stream: bytes) -> int | None:
    """Count replies with hiredis; None where it is stricter than Redis about what it decodes."""
    # An attribute comes out of it as a value of its own.
    if b"|" in stream or _HUGE.search(stream) or _LONE.search(stream):
        return None
    nothing = object()
    reader = hiredis.Reader(notEnoughData=nothing)
    reader.feed(stream)
    decoded = 0
    try:
        while (reply := reader.gets()) is not nothing:
            decoded += not isinstance(reply, hiredis.PushNotification)
    except (hiredis.HiredisError, TypeError, ValueError, UnicodeDecodeError):
        return None
    return decoded


def message(data: bytes) -> None:
    """What the compiled part reads in a message is what protobuf reads in it."""
    plain = _message.routing(data[1:])
    if plain is not None:
        assert plain == decode(data[1:], ("protobuf reads it where a path is given",))


def session(data: bytes) -> None:
    """A session without a matching rule changes nothing; one with rules neither raises nor holds without end."""
    elsewhere = Conversation(Rule("elsewhere", queues=(compile_glob("elsewhere"),), archived=Retention(Keep.TTL, 60)))
    ruled = Conversation().knows(COMPLETE, DEQUEUE, RUN_ONE)
    out = b""
    for chunk in chunks(data):
        out += elsewhere.session.receive_downstream(chunk)
        ruled.session.receive_downstream(chunk)
        for talk in (elsewhere, ruled):
            while talk.session.waiting_for is not None:
                rest = talk.activation_ends(Status.ACTIVE)
                out += rest if talk is elsewhere else b""
            talk.session.receive_upstream(chunk)
    assert data[1:].startswith(out)
    assert len(out) + elsewhere.session.held_bytes == len(data[1:])
    for talk in (elsewhere, ruled):
        talk.session.close()
        assert talk.session.pending == talk.shared.room.taken_bytes == 0


TARGETS: dict[str, Callable[[bytes], None]] = {
    "commands": commands,
    "replies": replies,
    "chunk": chunk,
    "message": message,
    "session": session,
}
