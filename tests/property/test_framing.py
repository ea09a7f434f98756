from collections.abc import Iterator
from itertools import cycle
from unittest.mock import patch

from hypothesis import example, given, settings
from hypothesis import strategies as st

import asynq_ttl.session.holding
import asynq_ttl.wire.commands
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Mode, Retention, Rule
from asynq_ttl.rewriting.registry import Status, sha_of
from asynq_ttl.wire.commands import Command, CommandFramer, WholeCommands, encode
from asynq_ttl.wire.replies import ReplyCounter
from support.conversation import INDEX, Conversation, complete, dequeue, run
from support.small_scripts import COMPLETE, DEQUEUE, OTHER, RUN_ONE, UNKNOWN

# Small stand-ins for the limits, so that small examples reach them.
HOLD_BYTES, MAX_HELD_BYTES = 64, 256
ELSEWHERE = Rule("elsewhere", queues=(compile_glob("other"),), archived=Retention(Keep.TTL, 60))

# How a stream is cut: sizes of chunks, used over and over.
cuts = st.lists(st.integers(1, 40), min_size=1, max_size=10) | st.just([1]) | st.integers(50, 500).map(lambda n: [n])

arguments = st.binary(max_size=12) | st.sampled_from(
    [b"\r\n", b"*1\r\n", b"$3\r\n", b"\r\n$1\r\na\r\n", b":0\r\n", b"*123456", b"~>|", b"PING"]
)
commands = st.lists(arguments, max_size=5)
plain_streams = st.lists(commands, max_size=8)
# Of a command, a line or a reply there is something in all of these; most are no commands.
scraps = st.sampled_from(
    [
        *(b"*1\r\n", b"*2\r\n", b"*0\r\n", b"*-1\r\n", b"*", b"$", b"\r", b"\n", b"\r\n", b"$4\r\nPING\r\n", b"$3\r\n"),
        *(
            b":0\r\n",
            b"+OK\r\n",
            b"-ERR\r\n",
            b"_\r\n",
            b"%1\r\n",
            b"~1\r\n",
            b">1\r\n",
            b"|1\r\n",
            b"=8\r\ntxt:PING\r\n",
        ),
        *(
            b"PING\r\n",
            b"*1\r\n$4\r\nPING\r\n",
            b"*2147483647\r\n",
            b"$536870913\r\n",
            b"*1\r\n$4\r\nPINGxx",
            b"\x16\x03\x01",
        ),
    ]
)
garbage = st.lists(scraps | st.binary(max_size=6) | commands.map(encode), max_size=12).map(b"".join)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut a stream into chunks of the given sizes."""
    position = 0
    for size in cycle(sizes):
        if position >= len(data):
            return
        yield data[position : position + size]
        position += size


def frame(framer: CommandFramer, data: bytes, sizes: list[int]) -> tuple[bytes, list[Command]]:
    """Frame a stream chunk by chunk; check that at each moment what went on and what is held is what came in."""
    out, fed, found = b"", 0, []
    for chunk in cut(data, sizes):
        passed, more, _ = framer.feed(chunk)
        out, fed = out + passed, fed + len(chunk)
        found += more
        assert len(out) + framer.held_bytes == fed
    assert data.startswith(out)
    return out, found


def hold_all(_head: Command, _size: int) -> bool:
    """Hold every command until it is whole."""
    return True


def mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Replace pieces of a stream: each change is a position, how much is cut out, and what is put in."""
    for position, length, piece in changes:
        at = position % (len(data) + 1)
        data = data[:at] + piece + data[at + length :]
    return data


mutations = st.lists(
    st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=3) | scraps), min_size=1, max_size=4
)


# --- commands ---------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(plain_streams, cuts)
def test_commands_are_framed_alike_however_they_are_cut(stream: list[Command], sizes: list[int]) -> None:
    """Each command is reported once, in order and as it was sent, and nothing stays behind."""
    data = b"".join(encode(command) for command in stream)
    framer = CommandFramer(WholeCommands(), hold_all)
    assert frame(framer, data, sizes) == (data, stream)
    assert not framer.opaque


@settings(deadline=None)
@given(plain_streams, garbage, cuts)
@example([[b"PING"]], b":0\r\n*2\r\n", [1000])
@example([[b"PING"]], b"*1\r\n%1\r\n*0\r\n+a\r\n", [1000])
def test_no_byte_is_changed_dropped_or_moved(stream: list[Command], rubbish: bytes, sizes: list[int]) -> None:
    """Commands before the garbage are reported whatever it is; once a connection is opaque nothing is held."""
    data = b"".join(encode(command) for command in stream) + rubbish
    whole = WholeCommands()
    framer = CommandFramer(whole, hold_all)
    _, found = frame(framer, data, sizes)
    assert found[: len(stream)] == stream
    assert not (framer.opaque and framer.held_bytes)
    assert CommandFramer(whole, hold_all).feed(encode([b"PING"])) == (encode([b"PING"]), [[b"PING"]], 0)


@settings(deadline=None)
@given(plain_streams, st.lists(st.binary(max_size=200), max_size=3), cuts, st.booleans())
def test_what_is_held_is_bounded(stream: list[Command], values: list[bytes], sizes: list[int], must_hold: bool) -> None:
    """A large command goes on in pieces, reported by its name; the commands around it are whole."""
    stream = [command for command in stream if len(encode(command)) < HOLD_BYTES]
    stream = [*stream, [b"SET", *values], *stream]
    data = b"".join(encode(command) for command in stream)
    with patch.multiple(asynq_ttl.wire.commands, HOLD_BYTES=HOLD_BYTES, MAX_HELD_BYTES=MAX_HELD_BYTES):
        framer = CommandFramer(WholeCommands(), lambda _, size: must_hold and size < MAX_HELD_BYTES)
        found: list[Command] = []
        out = b""
        for chunk in cut(data, sizes):
            passed, more, _ = framer.feed(chunk)
            out, found = out + passed, found + more
            assert framer.held_bytes < (MAX_HELD_BYTES if must_hold else HOLD_BYTES)
    assert out == data
    assert not framer.opaque
    assert not framer.passing
    assert all(told in (sent, [b"SET"], [b""]) for told, sent in zip(found, stream, strict=True))


@settings(deadline=None)
@given(plain_streams, mutations, cuts)
def test_a_damaged_stream_is_passed_on(
    stream: list[Command], changes: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    """Whatever is changed in a stream of commands, nothing raises and nothing hangs."""
    data = mutate(b"".join(encode(command) for command in stream), changes)
    with patch.multiple(asynq_ttl.wire.commands, HOLD_BYTES=HOLD_BYTES, MAX_HELD_BYTES=MAX_HELD_BYTES):
        frame(CommandFramer(WholeCommands(), lambda _, size: size < MAX_HELD_BYTES), data, sizes)


# --- replies ----------------------------------------------------------------------------------------------------

_lines = st.text(alphabet="abc :$*", max_size=5).map(str.encode)


def _bulk(marker: bytes, value: bytes) -> bytes:
    return marker + b"%d\r\n" % len(value) + value + b"\r\n"


def _aggregate(marker: bytes, values: list[bytes]) -> bytes:
    count = len(values) // 2 if marker in b"%|" else len(values)
    return marker + b"%d\r\n" % count + b"".join(values[: count * 2] if marker in b"%|" else values)


scalars = st.one_of(
    st.builds(lambda marker, text: marker + text + b"\r\n", st.sampled_from([b"+", b"-", b"(", b","]), _lines),
    st.integers().map(lambda number: b":%d\r\n" % number),
    st.sampled_from([b"_\r\n", b"#t\r\n", b"#f\r\n", b"$-1\r\n", b"*-1\r\n", b",inf\r\n"]),
    st.builds(_bulk, st.sampled_from([b"$", b"!", b"="]), arguments),
)
attributes = st.builds(_aggregate, st.just(b"|"), st.lists(scalars, max_size=4))
values = st.recursive(
    scalars | st.builds(lambda attribute, value: attribute + value, attributes, scalars),
    lambda inner: st.builds(_aggregate, st.sampled_from([b"*", b"~", b"%"]), st.lists(inner, max_size=4)),
    max_leaves=8,
)
replies = st.tuples(st.just(1), values) | st.tuples(st.just(0), st.lists(values).map(lambda v: _aggregate(b">", v)))


@settings(deadline=None)
@given(st.lists(replies, max_size=10), cuts)
def test_replies_are_counted_alike_however_they_are_cut(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    """As many replies are counted as there are, pushes not among them, each at its last byte."""
    counter = ReplyCounter()
    expected, fed, ends = 0, 0, []
    for count, reply in sent:
        expected += count
        fed += len(reply)
        ends.append((fed, expected))
    total, fed = 0, 0
    for chunk in cut(b"".join(reply for _, reply in sent), sizes):
        total += counter.feed(chunk)
        fed += len(chunk)
        assert total == max((number for end, number in ends if end <= fed), default=0)
        assert all(counter.heads)
    assert total == expected
    assert not counter.lost


@settings(deadline=None)
@given(st.lists(replies, max_size=10), mutations, cuts)
def test_damaged_replies_end_the_counting_at_worst(
    sent: list[tuple[int, bytes]], changes: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    """Whatever is changed in a stream of replies, nothing raises and nothing hangs; cutting makes no difference."""
    data = mutate(b"".join(reply for _, reply in sent), changes)
    at_once, in_pieces = ReplyCounter(), ReplyCounter()
    assert sum(in_pieces.feed(chunk) for chunk in cut(data, sizes)) == at_once.feed(data)
    assert in_pieces.lost == at_once.lost


# --- sessions ---------------------------------------------------------------------------------------------------

_calls = st.builds(
    lambda call, text, name: call(text if name == b"EVAL" else sha_of(text), name=name),
    st.sampled_from([complete, dequeue, run]),
    st.sampled_from([COMPLETE, DEQUEUE, RUN_ONE, OTHER, UNKNOWN]),
    st.sampled_from([b"EVAL", b"EVALSHA"]),
)
asynq_commands = _calls | st.sampled_from(
    [
        *((b"MULTI",), (b"EXEC",), (b"DISCARD",), (b"SELECT", b"3"), (b"RESET",), (b"PING",), ()),
        *((b"SCRIPT", b"LOAD", text) for text in (COMPLETE, DEQUEUE, RUN_ONE)),
        *((b"SCRIPT", b"FLUSH"), (b"SUBSCRIBE", b"a"), (b"CLIENT", b"REPLY", b"OFF"), (b"GET", INDEX)),
        *((b"EVALSHA", b"0" * 40, b"1", INDEX), (b"EVAL", COMPLETE), (b"EVALSHA", sha_of(COMPLETE), b"9", INDEX)),
    ]
)
asynq_streams = st.lists(asynq_commands.map(encode), max_size=10).map(b"".join)


def converse(talk: Conversation, data: bytes, sizes: list[int]) -> bytes:
    """Let a client send a stream in chunks; every activation succeeds. Return all that upstream receives."""
    out = b""
    for chunk in cut(data, sizes):
        out += talk.session.receive_downstream(chunk)
        while talk.session.waiting_for is not None:
            out += talk.activation_ends(Status.ACTIVE)
    return out


@settings(deadline=None)
@given(st.lists(asynq_streams | garbage, max_size=3).map(b"".join), cuts, st.booleans())
def test_without_a_matching_policy_traffic_is_identical(data: bytes, sizes: list[int], off: bool) -> None:
    """What goes on is what came in, whatever it is and however it is cut; at most an incomplete command is held."""
    talk = Conversation(mode=Mode.OFF) if off else Conversation(ELSEWHERE)
    talk.knows(COMPLETE)
    out = converse(talk, data, sizes)
    assert data.startswith(out)
    assert len(out) + talk.session.held_bytes == len(data)
    assert talk.told() == []


@settings(deadline=None)
@given(asynq_streams, st.sampled_from([b"", b"PING\r\n", b"*x\r\n"]), asynq_streams, cuts)
def test_a_rewritten_stream_is_the_same_however_it_is_cut(
    before: bytes, rubbish: bytes, after: bytes, sizes: list[int]
) -> None:
    """The same commands go on, the same decisions are told, and as many commands are counted."""
    data = before + rubbish + after
    at_once, in_pieces = Conversation(), Conversation()
    assert converse(in_pieces, data, sizes) == converse(at_once, data, [len(data) + 1])
    assert in_pieces.session.commands == at_once.session.commands
    for talk in (at_once, in_pieces):
        talk.upstream_replies(b":1\r\n" * talk.session.commands)
        talk.session.close()
    assert in_pieces.told() == at_once.told()
    assert in_pieces.complaints() == at_once.complaints()


@settings(deadline=None)
@given(asynq_streams, mutations, cuts)
def test_a_session_survives_a_damaged_stream(
    data: bytes, changes: list[tuple[int, int, bytes]], sizes: list[int]
) -> None:
    """Whatever is changed in a stream, nothing raises, and what is held is bounded."""
    talk = Conversation().knows(COMPLETE, DEQUEUE)
    with (
        patch.multiple(asynq_ttl.wire.commands, HOLD_BYTES=HOLD_BYTES, MAX_HELD_BYTES=MAX_HELD_BYTES),
        patch.multiple(asynq_ttl.session.holding, MAX_HELD_BYTES=MAX_HELD_BYTES),
    ):
        for chunk in cut(mutate(data, changes), sizes):
            talk.session.receive_downstream(chunk)
            while talk.session.waiting_for is not None:
                talk.activation_ends(Status.ACTIVE)
            assert talk.session.held_bytes < MAX_HELD_BYTES
    talk.session.close()


@settings(deadline=None)
@example(data=b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", sizes=[1], said=b"", changes=[])
@given(
    asynq_streams,
    cuts,
    st.lists(replies, max_size=20).map(lambda sent: b"".join(reply for _, reply in sent)),
    mutations,
)
def test_a_session_survives_whatever_redis_says(
    data: bytes, sizes: list[int], said: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    """Replies too many, too few or damaged settle each decision at most once and raise nothing."""
    talk = Conversation().knows(COMPLETE, DEQUEUE, RUN_ONE)
    talk.session.receive_upstream(said[: len(said) // 2])
    converse(talk, data, sizes)
    for chunk in cut(mutate(said[len(said) // 2 :], changes), sizes):
        talk.session.receive_upstream(chunk)
    waiting = talk.session.pending
    told = len(talk.told())
    talk.session.close()
    told_at_the_end = len(talk.told())
    assert told_at_the_end <= waiting  # a SELECT waits for its reply too, and is no decision
    assert told + told_at_the_end <= data.count(b"EVAL")
