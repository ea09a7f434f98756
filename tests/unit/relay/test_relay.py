"""All connections of a sidecar: who is let in, and how all are hung up on."""

import asyncio

import pytest

from asynq_ttl.wire.commands import encode
from support.relayed import Wire, connected
from support.waiting import LONG_SECONDS, until

PING = encode([b"PING"])


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


async def test_a_client_too_many_is_refused() -> None:
    """It is answered with Redis's own words, and is none of the connections."""
    relay, _, _, _ = await connected(max_connections=1)
    client, wire = relay.accept(), Wire()
    client.connection_made(wire)
    client.data_received(PING)
    assert wire.written == b"-ERR max number of clients reached\r\n"
    assert (relay.accepted, relay.refused, len(relay.connections)) == (1, 1, 1)
    assert relay.turned_away == {client}
    client.connection_lost(None)
    assert not relay.turned_away


async def test_who_comes_while_it_drains_is_refused() -> None:
    """And the drain ends when the clients that were there have gone."""
    relay, redis, client, wire = await connected()
    client.data_received(PING)
    redis.protocols[0].data_received(b"+PONG\r\n")
    drained = asyncio.create_task(relay.drain(LONG_SECONDS))
    await asyncio.sleep(0)
    late, refused = relay.accept(), Wire()
    late.connection_made(refused)
    late.data_received(PING)
    assert refused.written == b"-ERR asynq-ttl is shutting down\r\n"
    assert wire.closed
    client.connection_lost(None)
    redis.protocols[0].connection_lost(None)
    await asyncio.wait_for(drained, LONG_SECONDS)


async def test_a_drain_waits_for_replies_unless_it_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    """A command under way keeps its connection open, until somebody is in a hurry."""
    relay, redis, client, wire = await connected()
    client.data_received(PING)
    drained = asyncio.create_task(relay.drain(LONG_SECONDS))
    await asyncio.sleep(0.1)
    assert not wire.closed
    relay.end_drain()
    await until(lambda: wire.closed)
    assert "closing connections with commands under way (1): it was asked for twice" in caplog.text
    redis.protocols[0].connection_lost(None)
    await asyncio.wait_for(drained, LONG_SECONDS)


async def test_hanging_up_waits_for_what_is_under_way() -> None:
    """Nothing more is read from the client, and it is hung up on once Redis has answered."""
    relay, redis, client, wire = await connected()
    client.data_received(PING)
    hung_up = asyncio.create_task(relay.hang_up(LONG_SECONDS))
    await until(lambda: not wire.reading)
    assert not redis.wires[0].closed
    redis.protocols[0].data_received(b"+PONG\r\n")
    await asyncio.wait_for(hung_up, LONG_SECONDS)
    assert redis.wires[0].closed


async def test_hanging_up_does_not_wait_for_ever() -> None:
    """A Redis that does not answer is left all the same."""
    relay, redis, client, _ = await connected()
    client.data_received(PING)
    await asyncio.wait_for(relay.hang_up(0.02), LONG_SECONDS)
    assert redis.wires[0].closed
