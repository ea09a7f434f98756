"""Byte transparency: with nothing to rewrite, Redis receives and the client reads what they would without a sidecar."""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from asynq_ttl.policy.rules import Policy
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.wire.commands import encode
from support.asynq_calls import CALLS
from support.in_process import make_sidecar
from support.servers import Server

OFF = parse_policy("version: 1\nmode: off\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]", "off")
NO_MATCH = parse_policy(
    "version: 1\nrules: [{name: other, match: {queue: other}, archived: {ttl: 1h}, completed: {ttl: 1h}}]", "no match"
)


class Tap:
    """A relay that copies bytes to a server and remembers what it was sent."""

    def __init__(self, port: int) -> None:
        self.received = bytearray()
        self._port = port
        self._connections: set[asyncio.Task[None]] = set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await self._serve(reader, writer, upstream_reader, upstream_writer)
        finally:
            writer.close()
            upstream_writer.close()

    async def end(self) -> None:
        """End the connections that are left: one that the server has reset on one side waits for the other."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed is closed in the next turn of the loop

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        upstream_reader: asyncio.StreamReader,
        upstream_writer: asyncio.StreamWriter,
    ) -> None:

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, note: Callable[[bytes], None]) -> None:
            try:
                while data := await source.read(65_536):
                    note(data)
                    sink.write(data)
                    await sink.drain()
                if sink.can_write_eof():
                    sink.write_eof()
            except OSError:
                sink.close()

        await asyncio.gather(
            copy(reader, upstream_writer, self.received.extend), copy(upstream_reader, writer, lambda _: None)
        )


@asynccontextmanager
async def tapped_sidecar(server: Server, policy: Policy) -> AsyncIterator[tuple[int, Tap]]:
    """Run a sidecar in this loop with a tap between it and the server; yield its port and the tap."""
    tap = Tap(server.port)
    listener = await asyncio.start_server(tap, "127.0.0.1", 0)
    tap_port = listener.sockets[0].getsockname()[1]
    # Its own connections go past the tap and nothing is swept, so that the tap sees the client's bytes alone.
    sidecar = make_sidecar(f"redis://127.0.0.1:{tap_port}/0", policy, drain_seconds=1, sweep_seconds=0)
    direct = make_sidecar(server.url, policy)
    await sidecar.control.close()
    sidecar.control = sidecar.relay.control = direct.control
    sidecar.endpoint = direct.endpoint
    async with listener:
        async with sidecar.running() as address:
            yield address.port, tap
        await tap.end()


async def converse(port: int, chunks: list[bytes], *, pause: float = 0.0, end: bool = False) -> bytes:
    """Send chunks (and the end of the stream); return all that comes back until the other side hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            if pause:
                await asyncio.sleep(pause)
        if end:
            writer.write_eof()

    sending = asyncio.create_task(send())
    received = bytearray()
    try:
        while data := await asyncio.wait_for(reader.read(1 << 20), 15):
            received += data
    except ConnectionResetError:
        pass
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    writer.close()
    return bytes(received)


def cut(data: bytes, sizes: Callable[[], int]) -> list[bytes]:
    """Cut bytes into chunks of the sizes given."""
    chunks, position = [], 0
    while position < len(data):
        size = max(1, sizes())
        chunks.append(data[position : position + size])
        position += size
    return chunks


def command(*args: str | bytes) -> bytes:
    """Encode one command."""
    return encode([arg.encode() if isinstance(arg, str) else arg for arg in args])


def asynq_life() -> bytes:
    """Return the commands of two tasks' lives, by Asynq's own scripts, in the queue `q`."""
    now, run = 1_700_000_000, CALLS.run_one("id2")
    calls = [
        *(CALLS.enqueue(name, b"msg", None, now) for name in ("id1", "id2")),
        *(CALLS.dequeue(now), CALLS.dequeue(now)),
        *(CALLS.complete("id1", b"msg", 0, None, now), CALLS.archive("id2", b"msg", now)),
    ]
    stream = b"".join(command("EVAL", call.text, *call.encoded) for call in calls)
    stream += command("EVALSHA", "0" * 40, "2", "asynq:{q}:t:x", "asynq:{q}:archived")
    return stream + command("SCRIPT", "LOAD", run.text) + command("EVAL", run.text, *run.encoded)


CONVERSATIONS: dict[str, bytes] = {
    "resp2 pipeline": command("PING") + command("SET", "k", "v") * 50 + command("GET", "k") * 50 + command("NOPE"),
    "resp3 types": command("HELLO", "3")
    + command("HSET", "h", "a", "1", "b", "2")
    + command("HGETALL", "h")
    + command("ZADD", "z", "1.5", "m")
    + command("ZSCORE", "z", "m")
    + command("SMEMBERS", "none")
    + command("GET", "none")
    + command("DEBUG", "PROTOCOL", "push")
    + command("CLIENT", "GETNAME"),
    "multi": command("MULTI")
    + command("INCR", "n")
    + command("EVAL", "return {1, 'x', {2}}", "0")
    + command("EXEC")
    + command("MULTI")
    + command("DISCARD")
    + command("EXEC"),
    "pub/sub": command("SUBSCRIBE", "c1", "c2") + command("PING") + command("UNSUBSCRIBE") + command("PING", "x"),
    "resp3 pub/sub": command("HELLO", "3") + command("SUBSCRIBE", "c") + command("PUBLISH", "c", "m") + command("PING"),
    "blocking": command("BLPOP", "empty", "0.05")
    + command("PING")
    + command("RPUSH", "l", "x")
    + command("BLPOP", "l", "1"),
    "select and reset": command("SELECT", "3") + command("SET", "k", "3") + command("RESET") + command("GET", "k"),
    "scripts": command("EVAL", "return KEYS[1]", "1", "asynq:{q}:archived")
    + command("EVALSHA", "a" * 40, "0")
    + command("SCRIPT", "EXISTS", "a" * 40)
    + command("EVAL", "return redis.error_reply('MY oh my')", "0"),
    "asynq": asynq_life(),
    "inline": b"PING\r\n" + b"SET k inline\r\n" + b"\r\nGET k\r\n" + command("PING"),
    "inline after commands": command("PING") + b"PING\r\n" + command("PING"),
    "empty commands": b"*0\r\n" + command("PING") + b"*-1\r\n" + command("PING"),
    "wrong bulk": command("PING") + b"*1\r\n+PING\r\n" + command("PING"),
    "wrong length": command("PING") + b"*1\r\n$04\r\nPING\r\n" + command("PING"),
    "negative bulk": b"*2\r\n$3\r\nGET\r\n$-1\r\n" + command("PING"),
    "garbage": bytes(random.Random(1).randbytes(5000)) + b"\r\n" + command("PING"),
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "resp values as inline": b"$4\r\nPING\r\n" + command("PING"),
    "many arguments": command("DEL", *(f"k{number}" for number in range(20_000))) + command("PING"),
    "large value": command("SET", "big", b"x" * 3_000_000) + command("STRLEN", "big") + command("GET", "big"),
    "large script": command("EVAL", "return #ARGV[1]", "0", b"x" * 3_000_000) + command("PING"),
}
CUTS: dict[str, Callable[[], int]] = {
    "whole": lambda: 1 << 30,
    "1 to 100 bytes": lambda: random.randint(1, 100),
    "up to 70,000 bytes": lambda: random.randint(1, 70_000),
}


@pytest.mark.parametrize("policy", [OFF, NO_MATCH], ids=["off", "no match"])
@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_a_conversation_is_the_same_as_a_direct_one(server: Server, policy: Policy, name: str) -> None:
    """Whatever is said, however it is cut, both sides read exactly what they would without the sidecar."""
    stream = CONVERSATIONS[name]
    quit_after = command("QUIT")
    end = name == "garbage"  # which swallows the QUIT
    direct = await converse(server.port, [stream + quit_after], end=end)
    for cut_name, sizes in CUTS.items():
        if cut_name == "1 to 100 bytes" and len(stream) > 200_000:
            continue
        server.reset()
        async with tapped_sidecar(server, policy) as (port, tap):
            through = await converse(port, cut(stream + quit_after, sizes), end=end)
        assert _shape(through) == _shape(direct), cut_name
        # What a server that has hung up was never sent does not count.
        assert (stream + quit_after).startswith(bytes(tap.received)), cut_name
        assert len(tap.received) == len(stream + quit_after) or b"-ERR Protocol error" in direct, cut_name
    server.reset()


async def test_a_value_of_64_mib_goes_through(server: Server) -> None:
    """A value of 64 MiB goes in and out unchanged."""
    value = random.Random(2).randbytes(1 << 20) * 64
    stream = command("SET", "big", value) + command("GET", "big") + command("QUIT")
    async with tapped_sidecar(server, NO_MATCH) as (port, tap):
        received = await converse(port, cut(stream, lambda: 1 << 18))
    assert received == b"+OK\r\n$%d\r\n%b\r\n+OK\r\n" % (len(value), value)
    assert bytes(tap.received) == stream
    server.reset()


async def test_byte_by_byte(server: Server) -> None:
    """Commands that arrive one byte at a time are answered as they would be directly."""
    stream = command("PING") + command("SET", "k", "v") + command("GET", "k") + b"PING\r\n" + command("QUIT")
    direct = await converse(server.port, [stream])
    async with tapped_sidecar(server, NO_MATCH) as (port, tap):
        through = await converse(port, cut(stream, lambda: 1), pause=0.001)
    assert through == direct
    assert bytes(tap.received) == stream


async def test_messages_reach_a_subscriber(server: Server) -> None:
    """What others publish reaches a client that subscribed through the sidecar, on RESP2 and on RESP3."""
    for hello in (b"", command("HELLO", "3")):
        async with tapped_sidecar(server, NO_MATCH) as (port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(hello + command("SUBSCRIBE", "news"))
            await reader.readuntil(b":1\r\n")
            with server.client() as client:
                client.publish("news", "hello")
            assert (await asyncio.wait_for(reader.readuntil(b"hello\r\n"), 5)).endswith(b"$5\r\nhello\r\n")
            writer.close()


def _shape(replies: bytes) -> bytes:
    """Return replies without what differs from one connection to the next (the ID in HELLO's)."""
    return re.sub(rb"(\$2\r\nid\r\n):\d+", rb"\1:0", replies)
