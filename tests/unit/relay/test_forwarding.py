"""`_forwarding.c`: what becomes of a chunk is the same, compiled or not, whatever was before it."""

import asyncio
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.policy.rules import Mode, Policy
from asynq_ttl.relay import forwarding
from asynq_ttl.relay.connection import Downstream, UpstreamProtocol
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.pending import MAX_PENDING, Pending
from asynq_ttl.session.session import Session
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import Conversation, complete, dequeue, run
from support.relayed import Upstream, Wire, connected
from support.resp_pieces import CHUNKS
from support.small_scripts import COMPLETE, DEQUEUE, OTHER
from support.uncompiled import uncompiled

PLAIN = uncompiled(forwarding, "asynq_ttl.relay._forwarding")


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here: a C compiler and Python's headers are needed for that."""
    assert importlib.util.find_spec("asynq_ttl.relay._forwarding") is not None
    assert Downstream.data_received is not Downstream.pass_on
    assert Downstream.upstream_received is not Downstream.pass_back


def test_without_it_python_does_it_all() -> None:
    """The class stays as it is: there is nothing that only the compiled part does."""

    class Plain(Downstream):
        data_received = Downstream.pass_on

    PLAIN.forward(Plain, UpstreamProtocol)
    assert Plain.data_received is Downstream.pass_on


# --- the same, whatever was before ----------------------------------------------------------------------------------


@dataclass
class Side:
    """One of two connections to which the same happens: what its client and its Redis send is received by these."""

    talk: Conversation
    redis: Upstream
    client: Downstream
    wire: Wire
    from_client: Callable[[bytes], None]
    from_redis: Callable[[bytes], None]
    seen: list[object] = field(default_factory=list)

    @classmethod
    async def new(cls, *, compiled: bool) -> "Side":
        """Connect a client that calls scripts which are known and wrapped."""
        talk = Conversation().knows(COMPLETE, DEQUEUE)
        talk.registry.learn(OTHER)
        _, redis, client, wire = await connected(talk=talk)
        from_client, from_redis = client.data_received, redis.protocols[0].data_received
        if not compiled:
            from_client, from_redis = client.pass_on, client.pass_back
        return cls(talk, redis, client, wire, from_client, from_redis)

    def state(self) -> tuple[object, ...]:
        """Return all that can be seen of it."""
        session, traffic, upstream = self.client.session, self.client._traffic, self.redis.wires[0]
        return (
            *(upstream.written, upstream.reading, self.wire.written, self.wire.reading),
            *(session.commands, session.replies, session.counting, session.busy, session.pending, session.database),
            *(traffic.bytes_from_clients, traffic.bytes_from_redis, traffic.command_due, traffic.reply_due),
            *(self.client.idle, self.client.awaits_reply, self.client._pauses, self.talk.shared.room.taken_bytes),
            *(self.talk.told(), self.talk.complaints(), [told for _, told in self.redis.measured.chunks]),
        )


def a_chunk(data: bytes) -> Callable[[Side], None]:
    """Let the client send bytes."""
    return lambda side: side.from_client(data)


def a_reply(data: bytes) -> Callable[[Side], None]:
    """Let Redis send bytes."""
    return lambda side: side.from_redis(data)


def another_policy(side: Side) -> None:
    """Decide by another one, which wants nothing."""
    side.talk.shared.use(Rewriter(Policy((), mode=Mode.OFF), set()))


def a_doubt(side: Side) -> None:
    """Let a wrapper be tried anew, with success."""
    side.talk.registry.doubted(sha_of(DEQUEUE))
    script = side.talk.registry.get(sha_of(DEQUEUE))
    assert script is not None
    side.talk.registry.activated(script)


OK = b"+OK\r\n"
PING, POLL, ENDING = encode([b"PING"]), encode(dequeue(sha_of(DEQUEUE))), encode(complete(sha_of(COMPLETE)))
UNTOUCHED, UNSEEN = (encode((b"EVALSHA", sha, b"1", b"asynq:{q}:t:1")) for sha in (sha_of(OTHER), b"d" * 40))
SENT: list[bytes] = [
    *(
        PING,
        POLL,
        ENDING,
        UNTOUCHED,
        UNSEEN,
        PING + POLL,
        PING + ENDING + PING,
        POLL[:20],
        ENDING[:-1],
        b"",
        b"PING\r\n",
    ),
    *(encode(words.split()) for words in (b"MULTI", b"EXEC", b"SELECT 3", b"CLIENT REPLY OFF", b"SUBSCRIBE c")),
    *(encode([b"ECHO", b"x" * HOLD_BYTES]), encode(run(sha_of(DEQUEUE))), encode([b"SCRIPT", b"FLUSH"])),
]
TOLD: list[bytes] = [
    *(b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"+OK\r\n" * 2, b"$2\r\nOK\r\n", b"$2\r\nO", b"K\r\n", b"*1\r\n:1\r\n"),
    *(b"-NOSCRIPT\r\n", b">1\r\n:1\r\n", b"|1\r\n+a\r\n:1\r\n:2\r\n", b"", b"?"),
    b"$65536\r\n" + b"x" * HOLD_BYTES + b"\r\n",
]
EVENTS = st.one_of(
    st.sampled_from(SENT).map(a_chunk),
    st.sampled_from(TOLD).map(a_reply),
    CHUNKS.map(a_chunk),
    st.sampled_from(
        (
            another_policy,
            a_doubt,
            lambda side: side.client._traffic.time_next(),
            lambda side: side.redis.protocols[0].pause_writing(),
            lambda side: side.redis.protocols[0].resume_writing(),
            lambda side: side.client.pause_writing(),
            lambda side: side.client.resume_writing(),
            lambda side: side.client.eof_received(),
            lambda side: side.client.connection_lost(None),
            lambda side: side.redis.protocols[0].connection_lost(None),
        )
    ),
)


@given(events=st.lists(EVENTS, max_size=12))
@example(events=[a_chunk(POLL), a_chunk(POLL), another_policy, a_chunk(POLL), a_chunk(POLL)])
@example(events=[a_chunk(POLL), a_chunk(POLL), a_doubt, a_chunk(POLL), a_reply(b"$-1\r\n" * 3)])
@example(events=[a_chunk(ENDING), a_chunk(PING), a_reply(b"+OK\r\n"), a_reply(b"+PONG\r\n")])
@example(events=[a_chunk(ENDING), a_reply(OK)] * 3)
@example(events=[*[a_chunk(ENDING)] * 2, a_chunk(PING), a_chunk(ENDING), a_reply(OK * 2), *[a_reply(OK)] * 3])
@example(events=[*[a_chunk(ENDING)] * 5, a_reply(OK), a_reply(b"-NOSCRIPT\r\n"), a_reply(b":1\r\n")])
@example(events=[*[a_chunk(ENDING)] * 2, another_policy, a_chunk(ENDING), a_reply(OK * 3)])
@example(events=[a_reply(OK), *[a_chunk(ENDING)] * 2, a_reply(OK)])
@example(events=[a_chunk(ENDING), a_chunk(encode([b"SELECT", b"3"])), a_chunk(ENDING), *[a_reply(OK)] * 3])
@example(events=[a_chunk(ENDING), a_chunk(encode([b"SUBSCRIBE", b"c"])), a_chunk(ENDING), a_reply(OK)])
@example(events=[a_chunk(PING), a_reply(b"$2\r\nO"), a_reply(b"K\r\n"), a_reply(b"+OK\r\n")])
def test_the_same_becomes_of_a_chunk(events: list[Callable[[Side], None]]) -> None:
    """What is written, read, counted, held and told of, after each event."""

    async def happen() -> None:
        sides = [await Side.new(compiled=compiled) for compiled in (True, False)]
        for event in events:
            for side in sides:
                event(side)
            await asyncio.sleep(0)
            compiled, plain = (side.state() for side in sides)
            assert compiled == plain

    asyncio.run(happen())


# --- what the compiled part is for ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [PING, PING * 3, POLL, UNTOUCHED, UNSEEN], ids=["one", "some", "poll", "text", "sha"])
async def test_a_usual_chunk_needs_no_python(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second time on nothing of what stands in Python is called, in either direction."""
    side = await Side.new(compiled=True)
    side.from_client(chunk)
    side.from_redis(b"$-1\r\n")
    for name in ("pass_on", "pass_back"):
        monkeypatch.delattr(Downstream, name)
    commands = side.client.session.commands
    side.from_client(chunk)
    side.from_redis(b"$-1\r\n")
    assert side.client.session.commands == 2 * commands
    assert side.client.session.replies == 2
    assert side.wire.written == b"$-1\r\n" * 2


@pytest.mark.compiled
async def test_an_ending_like_others_needs_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does its usual reply; and so it is with the reply to what was sent before it."""
    side = await Side.new(compiled=True)
    side.from_client(ENDING)
    side.from_redis(b"+OK\r\n")
    for owner, name in ((Downstream, "pass_on"), (Downstream, "pass_back"), (Session, "take_one"), (Pending, "expect")):
        monkeypatch.delattr(owner, name)
    side.client.session.receive_upstream = lambda _: None  # type: ignore[misc]
    for chunk in (ENDING, PING, ENDING):
        side.from_client(chunk)
    assert side.client.session.pending == 2
    for _ in range(3):
        side.from_redis(b"+OK\r\n")
    assert side.client.session.pending == 0
    assert side.client.session.commands == side.client.session.replies == 4
    assert side.talk.told() == [("ttl", b"+OK")] * 3


@pytest.mark.parametrize("compiled", [True, False])
async def test_more_endings_than_a_few_wait_as_well(*, compiled: bool) -> None:
    """Past some the compiled part asks whether there is room; past the bound each is told at once."""
    side = await Side.new(compiled=compiled)
    side.from_client(ENDING)
    assert isinstance(side.client.session, Session)
    waiting = side.client.session._pending._waiting
    waiting.extend(list(waiting) * (MAX_PENDING - 2))
    for _ in range(3):
        side.from_client(ENDING)
    assert side.client.session.pending == MAX_PENDING
    assert side.talk.told() == [("ttl", b"")] * 2


@pytest.mark.compiled
@pytest.mark.parametrize("upstream", [object, type("Other", (), {"write": None})])
def test_only_attributes_in_slots_are_looked_at(upstream: type[asyncio.Protocol]) -> None:
    """A class that has them elsewhere is refused at the start, not read at the wrong place."""
    with pytest.raises((AttributeError, TypeError)):
        forwarding.forward(Downstream, upstream)
