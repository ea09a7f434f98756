"""A relay with one client and a Redis that takes every connection, without a network."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, cast

from asynq_ttl.events import SpanIds
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.relay.connection import Downstream, UpstreamProtocol
from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from support.conversation import Conversation

P = TypeVar("P", bound=asyncio.Protocol)


class Measured:
    """Remembers what it is told of latencies."""

    def __init__(self) -> None:
        self.latest_span: SpanIds | None = None
        self.chunks: list[tuple[int, str]] = []
        self.spans: list[SpanIds | None] = []
        self.late: list[float] = []

    def measured(self, nanoseconds: int, direction: str, span: SpanIds | None = None) -> None:
        """Remember a chunk."""
        self.chunks.append((nanoseconds, direction))
        self.spans.append(span)

    def loop_late(self, seconds: float) -> None:
        """Remember how late the event loop was."""
        self.late.append(seconds)


class Wire(asyncio.Transport):
    """A transport that remembers what is written, and whether it is read from and closed."""

    def __init__(self, **extra: object) -> None:
        super().__init__(extra)
        self.written = b""
        self.reading = True
        self.closed = False
        self.ended = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Remember it."""
        self.written += data

    def pause_reading(self) -> None:
        """Read no more."""
        self.reading = False

    def resume_reading(self) -> None:
        """Read again."""
        self.reading = True

    def can_write_eof(self) -> bool:
        """Say that one side can end alone."""
        return True

    def write_eof(self) -> None:
        """Remember that nothing more is written."""
        self.ended = True

    def is_closing(self) -> bool:
        """Say whether it was closed."""
        return self.closed

    def close(self) -> None:
        """Close it."""
        self.closed = True

    abort = close


class Upstream(Endpoint):
    """A Redis that takes every connection, and who is told of its latency."""

    def __init__(self) -> None:
        super().__init__(parse_upstream("redis://127.0.0.1:6379/0"))
        self.fault: BaseException | None = None
        self.wires: list[Wire] = []
        self.protocols: list[UpstreamProtocol] = []
        self.measured = Measured()

    async def open(self, factory: Callable[[], P]) -> P:
        """Connect a protocol to nothing."""
        if self.fault is not None:
            raise self.fault
        protocol, wire = factory(), Wire()
        protocol.connection_made(wire)
        self.wires.append(wire)
        self.protocols.append(cast("UpstreamProtocol", protocol))  # a relay opens no other
        return protocol


async def connected(
    *, max_connections: int = 10, talk: Conversation | None = None
) -> tuple[Relay, Upstream, Downstream, Wire]:
    """Return a relay with one client, which has its connection to Redis.

    Args:
        max_connections: more clients than this are refused.
        talk: has what all sessions share; None for one that knows nothing.
    """
    endpoint = Upstream()
    control = ControlConnection(endpoint, ScriptRegistry(), lambda *_: None, lambda: None)
    relay = Relay(
        (talk or Conversation()).shared, endpoint, control, endpoint.measured, max_connections=max_connections
    )
    client, wire = relay.accept(), Wire()
    client.connection_made(wire)
    await asyncio.gather(*relay.tasks)
    return relay, endpoint, client, wire
