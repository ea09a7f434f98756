"""The two sides of a connection, without a network: what is let go of when."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

import pytest

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.relay.relay import Downstream, Relay, UpstreamProtocol
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import COMPLETE, Conversation

P = TypeVar("P", bound=asyncio.Protocol)
CALL = encode([b"EVAL", COMPLETE, b"0", b"x" * 2 * HOLD_BYTES])


class Wire(asyncio.Transport):
    """A transport that remembers what is written, and whether it is read from and closed."""

    def __init__(self, **extra: object) -> None:
        super().__init__(extra)
        self.written = b""
        self.reading = True
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Remember it."""
        self.written += data

    def pause_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reading = True

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close it."""
        self.closed = True

    abort = close


class Upstream(Endpoint):
    """A Redis that takes every connection."""

    def __init__(self) -> None:
        super().__init__(parse_upstream("redis://127.0.0.1:6379/0"))
        self.fault: BaseException | None = None
        self.wires: list[Wire] = []
        self.protocols: list[UpstreamProtocol] = []

    async def open(self, factory: Callable[[], P]) -> P:
        """Connect a protocol to nothing."""
        if self.fault is not None:
            raise self.fault
        protocol, wire = factory(), Wire()
        protocol.connection_made(wire)
        self.wires.append(wire)
        self.protocols.append(cast("UpstreamProtocol", protocol))  # a relay opens no other
        return protocol


async def connected() -> tuple[Relay, Upstream, Downstream, Wire]:
    """Return a relay with one client, which has its connection to Redis."""
    endpoint = Upstream()
    control = ControlConnection(endpoint, ScriptRegistry(), lambda *_: None, lambda: None)
    relay = Relay(Conversation().shared, endpoint, control, max_connections=10)
    client, wire = relay.accept(), Wire()
    client.connection_made(wire)
    await asyncio.gather(*relay.tasks)
    return relay, endpoint, client, wire


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


async def test_an_abort_closes_both_sides() -> None:
    """At the end of a drain nothing waits for a Redis that takes nothing in."""
    relay, redis, _, wire = await connected()
    drained = asyncio.get_running_loop().create_task(relay.drain(0))
    await asyncio.sleep(0)
    assert wire.closed
    assert redis.wires[0].closed
    redis.protocols[0].connection_lost(None)
    await drained


async def test_a_client_does_not_wait_for_what_cannot_be_done(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is raised while Redis is connected to, the client is hung up on, and somebody is told."""
    relay, redis, *_ = await connected()
    redis.fault = MemoryError()
    client, wire = relay.accept(), Wire()
    client.connection_made(wire)
    await asyncio.wait(relay.tasks)
    await asyncio.sleep(0)
    assert wire.closed
    assert "closing a connection: MemoryError" in caplog.text


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
