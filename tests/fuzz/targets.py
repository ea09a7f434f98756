"""What is fuzzed, each as a function of bytes that fails when an invariant does not hold. Needs no fuzzer itself.

The first byte says how the rest is cut into chunks.
"""

import re
from collections.abc import Callable

import hiredis

from asynq_ttl.glob import compile_glob
from asynq_ttl.policy import Keep, Retention, Rule
from asynq_ttl.resp import HOLD_BYTES, Command, CommandFramer, ReplyCounter, WholeCommands
from asynq_ttl.scripts import Status
from conversation import COMPLETE, DEQUEUE, RUN, Conversation

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


def replies(data: bytes) -> None:
    """Cutting makes no difference, and what hiredis decodes whole is counted as hiredis counts it."""
    stream = data[1:]
    at_once, in_pieces = ReplyCounter(), ReplyCounter()
    count = at_once.feed(stream)
    assert sum(in_pieces.feed(chunk) for chunk in chunks(data)) == count
    assert in_pieces.lost == at_once.lost
    # Redis ends a line with both of CR and LF; the counter goes by the LF, hiredis looks for the pair.
    if at_once.lost or b"|" in stream or b">" in stream or _HUGE.search(stream) or _LONE.search(stream):
        return
    nothing = object()
    reader = hiredis.Reader(notEnoughData=nothing)
    reader.feed(stream)
    decoded = 0
    try:
        while reader.gets() is not nothing:
            decoded += 1
    except (hiredis.HiredisError, TypeError, ValueError, UnicodeDecodeError):
        return  # it is stricter about what stands in a line; Redis does not send such
    assert decoded == count


def session(data: bytes) -> None:
    """A session without a matching rule changes nothing; one with rules neither raises nor holds without end."""
    elsewhere = Conversation(Rule("elsewhere", queues=(compile_glob("elsewhere"),), archived=Retention(Keep.TTL, 60)))
    ruled = Conversation().knows(COMPLETE, DEQUEUE, RUN)
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
        assert talk.session.pending == 0


TARGETS: dict[str, Callable[[bytes], None]] = {"commands": commands, "replies": replies, "session": session}
