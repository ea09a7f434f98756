"""The two sides of a connection, without a network: what is let go of when."""

import asyncio

import pytest

from asynq_ttl.events import Enqueue
from asynq_ttl.session.session import Session
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import Conversation
from support.recorded import decision
from support.relayed import Wire, connected
from support.small_scripts import COMPLETE

CALL = encode([b"EVAL", COMPLETE, b"0", b"x" * 2 * HOLD_BYTES])


async def test_a_client_that_has_gone_counts_until_redis_has_what_it_sent() -> None:
    """Nobody can make the sidecar hold ever more by sending something to a slow Redis and hanging up."""
    relay, redis, client, _ = await connected()
    client.data_received(CALL[:-1])
    assert relay.shared.room.taken_bytes > 0
    client.connection_lost(None)
    assert redis.wires[0].closed
    assert len(relay.connections) == 1
    redis.protocols[0].connection_lost(None)
    assert not relay.connections
    assert relay.shared.room.taken_bytes == 0


async def test_a_large_call_has_its_room_until_redis_takes_more() -> None:
    """What was written is still held where the connection to Redis is full."""
    relay, redis, client, wire = await connected()
    client.data_received(CALL[:-1])
    redis.protocols[0].pause_writing()
    assert not wire.reading
    client.data_received(CALL[-1:])
    assert redis.wires[0].written == CALL
    assert relay.shared.room.taken_bytes > 0
    redis.protocols[0].resume_writing()
    await asyncio.sleep(0)
    assert wire.reading
    assert relay.shared.room.taken_bytes == 0
    client.data_received(CALL)
    client.data_received(CALL[:-1])
    client.data_received(CALL[-1:])
    await asyncio.sleep(0)
    assert relay.shared.room.taken_bytes == 0


@pytest.mark.parametrize("chunk", [encode([b"PING"]), encode([b"ECHO", b"x" * 5000])])
async def test_a_tls_client_that_has_gone_before_redis_is_there(chunk: bytes) -> None:
    """What it sent goes to Redis all the same; it may not send much."""
    relay, redis, *_ = await connected()
    client, wire = relay.accept(), Wire(sslcontext=True)
    client.connection_made(wire)
    client.data_received(chunk)
    assert wire.reading == (len(chunk) < 5000)
    client.connection_lost(None)
    await asyncio.gather(*relay.tasks)
    assert redis.wires[1].written == chunk
    assert redis.wires[1].closed
    redis.protocols[1].connection_lost(None)
    assert len(relay.connections) == 1


async def test_a_tls_client_that_has_gone_before_redis_could_not_be_reached() -> None:
    """Nobody is left to be told why, and nothing of it is kept."""
    relay, redis, *_ = await connected()
    redis.fault = OSError("away")
    client = relay.accept()
    client.connection_made(Wire(sslcontext=True))
    client.data_received(encode([b"PING"]))
    client.connection_lost(None)
    await asyncio.gather(*relay.tasks)
    assert len(relay.connections) == 1
    assert not relay.turned_away


async def test_a_tls_client_sends_little_before_redis_is_there() -> None:
    """Many small chunks are as bad as a large one."""
    relay, *_ = await connected()
    client, wire = relay.accept(), Wire(sslcontext=True)
    client.connection_made(wire)
    for _ in range(15):
        client.data_received(b"*")
    assert wire.reading
    client.data_received(b"*")
    assert not wire.reading
    await asyncio.gather(*relay.tasks)
    assert wire.reading


async def test_who_has_much_to_say_takes_turns() -> None:
    """A client that pipelines without end, or reads ever more, keeps nobody else waiting for long."""
    _, redis, client, wire = await connected()
    upstream = redis.wires[0]
    client.data_received(encode([b"ECHO", b"x" * HOLD_BYTES]))
    redis.protocols[0].data_received(b"+" + b"x" * HOLD_BYTES)
    assert not wire.reading
    assert not upstream.reading
    await asyncio.sleep(0)
    assert wire.reading
    assert upstream.reading


async def test_a_turn_does_not_wake_what_waits_for_a_slow_client() -> None:
    """Nothing is read from Redis for a client that takes nothing in."""
    _, redis, client, _ = await connected()
    upstream = redis.wires[0]
    redis.protocols[0].data_received(b"+" + b"x" * HOLD_BYTES)
    client.pause_writing()
    await asyncio.sleep(0)
    assert not upstream.reading
    redis.protocols[0].data_received(b"x" * HOLD_BYTES)
    await asyncio.sleep(0)
    assert not upstream.reading
    client.resume_writing()
    assert upstream.reading


async def test_every_chunk_is_counted_and_one_in_each_direction_is_timed_when_asked() -> None:
    """The bytes arrive all the same, once."""
    relay, redis, client, wire = await connected()
    ping = encode([b"PING"])
    relay.traffic.time_next()
    for _ in range(2):
        client.data_received(ping)
        redis.protocols[0].data_received(b"+PONG\r\n")
    assert redis.wires[0].written == 2 * ping
    assert wire.written == b"+PONG\r\n" * 2
    assert (relay.traffic.bytes_from_clients, relay.traffic.bytes_from_redis) == (2 * len(ping), 14)
    assert [direction for _, direction in redis.measured.chunks] == ["command", "reply"]


@pytest.mark.parametrize("marked", [False, True])
async def test_replies_that_are_timed_name_the_span_of_what_was_decided(
    marked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not it is told before the client has its reply; and replies to something else name none."""
    talk = Conversation().knows(COMPLETE)
    relay, redis, client, wire = await connected(talk=talk)
    spans = [(number, number, None) for number in (1, 2)]
    monkeypatch.setattr(
        talk.observer, "decided", lambda _: setattr(redis.measured, "latest_span", spans[len(redis.measured.spans)])
    )
    session = client.session
    assert isinstance(session, Session)
    for reply in (b":1\r\n", b":2\r\n", b"+PONG\r\n"):
        client.data_received(encode([b"PING"]))
        if marked and reply == b":2\r\n":
            session._await_enqueue(Enqueue(decision(operation="replace"), (("archived", "mail"),), b"t", b"", b"{}"))
        elif reply == b":2\r\n":
            session._expect(decision())
        relay.traffic.time_next()
        relay.traffic.command_due = False
        redis.protocols[0].data_received(reply)
    assert redis.measured.spans == [None, spans[1], None]
    assert wire.written == (b":1\r\n:1\r\n+PONG\r\n" if marked else b":1\r\n:2\r\n+PONG\r\n")


async def test_when_redis_hangs_up_the_client_is_hung_up_on() -> None:
    """It is closed, not aborted, so that it gets what Redis has sent; and it counts no more."""
    relay, redis, client, wire = await connected()
    client.data_received(encode([b"PING"]))
    redis.protocols[0].connection_lost(None)
    assert wire.closed
    assert not relay.connections
    assert relay.commands == 1


async def test_the_end_of_the_clients_commands_is_passed_on() -> None:
    """Replies still go to a client that only stops sending."""
    _, redis, client, wire = await connected()
    assert client.eof_received()
    assert redis.wires[0].ended
    redis.protocols[0].data_received(b"+OK\r\n")
    assert wire.written == b"+OK\r\n"


async def test_a_mark_is_taken_out_of_what_the_client_gets() -> None:
    """Each byte of Redis's is counted, and its reply is noted once."""
    relay, redis, client, wire = await connected()
    session = client.session
    assert isinstance(session, Session)
    session.commands = 1
    session._await_enqueue(Enqueue(decision(operation="replace"), (("archived", "mail"),), b"t", b"", b"{}"))
    for piece in (b":", b"2\r\n", b":2\r\n"):
        redis.protocols[0].data_received(piece)
    assert wire.written == b":1\r\n:2\r\n"
    assert (session.replies, relay.traffic.bytes_from_redis) == (2, 8)
