"""Moves bytes between a client and Redis: one upstream connection for each downstream connection.

Everything that is decided is decided in `Session`; here are sockets, back-pressure and life-cycles. Each
direction stops reading while the other side's write buffer is full, so a slow or dead peer costs a bounded amount of
memory and nothing else. A connection that has much to say gets one large chunk in each turn of the loop, so it keeps
nobody waiting.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from enum import Flag, auto
from functools import partial
from typing import cast

from asynq_ttl.session.session import Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.relay")

# A client that is refused is told why for this long.
_REFUSAL_SECONDS = 2.0
# All idle connections are closed in this many steps.
_DRAIN_CHUNKS = 20
_DRAIN_STEP_SECONDS = 0.02
_FIRST_COMMAND_SECONDS = 0.3
_LEAVE_STEP_SECONDS = 0.002
# What a TLS client may send before Redis is connected to: so many chunks, or a larger one. (Security limits.)
_EARLY_CHUNKS = 16
_EARLY_BYTES = 4096
# After a chunk of this size it is the others' turn: libuv would go on and read up to 32 chunks, 8 MB of small commands.
_TURN_BYTES = 65_536


class Pause(Flag):
    """Why nothing is read from a peer at the moment."""

    NONE = 0
    CONNECTING = auto()
    ACTIVATING = auto()
    FULL = auto()
    LEAVING = auto()
    TURN = auto()


_NO_PAUSE = Pause.NONE  # a member by itself: to look one up takes longer than all else about it


class Relay:
    """All connections of a sidecar.

    Args:
        shared: what all sessions share.
        endpoint: where Redis is.
        control: the sidecar's own connection, which loads wrappers.
        max_connections: more clients than this are refused.
    """

    def __init__(self, shared: Shared, endpoint: Endpoint, control: ControlConnection, *, max_connections: int) -> None:
        self.shared = shared
        self.control = control
        self.max_connections = max_connections
        self.draining = False
        self.hurry = False
        """Set to end a drain at once."""
        self.connections: set[Downstream] = set()
        self.turned_away: set[Downstream] = set()
        """Refused clients that are being told why."""
        self.accepted = 0
        self.refused = 0
        self.closed_commands = 0
        self.bytes_from_clients = 0
        self.bytes_from_redis = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.command_due = False
        """Whether the next chunk of commands is to be timed. Set every now and then (`Pulse`), so that what timing
        costs does not grow with the traffic."""
        self.reply_due = False
        """Likewise for replies."""
        self.measured: Callable[[int, str], None] = _forget
        """Told of how many nanoseconds a chunk was held, and of its direction: `command` or `reply`."""
        self._endpoint = endpoint

    @property
    def commands(self) -> int:
        """Commands forwarded so far."""
        # A copy, since metrics are collected on other threads.
        return self.closed_commands + sum(connection.session.commands for connection in tuple(self.connections))

    def accept(self) -> "Downstream":
        """Return the protocol of a new client connection (a protocol factory for asyncio)."""
        return Downstream(self)

    async def connect(self, downstream: "Downstream") -> "UpstreamProtocol":
        """Open the upstream connection of a client.

        Raises:
            OSError: Redis cannot be reached.
            TimeoutError: it does not answer in time.
        """
        return await self._endpoint.open(lambda: UpstreamProtocol(downstream))

    def spawn(self, connection: "Downstream", work: Coroutine[None, None, None]) -> None:
        """Do what a connection waits for; close it if that raises, so that its client does not wait for ever."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(partial(self._done, connection))

    def _done(self, connection: "Downstream", task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("closing a connection: %s", type(error).__name__, exc_info=error)
            connection.abort()

    def hang_up(self) -> None:
        """Close every connection as Redis does when it goes away: what is on its way to it is dropped."""
        for connection in tuple(self.connections):
            connection.hang_up()
        for connection in tuple(self.turned_away):
            connection.close()

    async def leave(self, seconds: float) -> None:
        """Hang up on all clients, and give what is under way a little time to be answered.

        Args:
            seconds: how long. Nothing more is read from clients.
        """
        for connection in self.connections:
            connection.leave()
        for _ in range(round(seconds / _LEAVE_STEP_SECONDS)):
            if not any(connection.awaits_reply for connection in self.connections):
                break
            await asyncio.sleep(_LEAVE_STEP_SECONDS)
        self.hang_up()

    async def drain(self, timeout_seconds: float) -> None:
        """Close each connection at a moment when nothing is under way on it; after the timeout, in any case.

        They go a few at a time, so that their clients do not all connect anew at once, and pub/sub goes last.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        chunk = max(len(self.connections) // _DRAIN_CHUNKS, 1)
        while self.connections and loop.time() < deadline and not self.hurry:
            # One that has just been accepted may be about to send its first command.
            fresh = deadline - timeout_seconds + _FIRST_COMMAND_SECONDS > loop.time()
            idle = [each for each in self.connections if each.idle and (each.session.commands or not fresh)]
            # Connections whose replies cannot be counted (pub/sub) are idle for all we know.
            if not idle:
                idle = [connection for connection in self.connections if not connection.session.counting]
                idle = idle if len(idle) == len(self.connections) else []
            for connection in idle[:chunk]:
                connection.close()
            await asyncio.sleep(_DRAIN_STEP_SECONDS)
        why = "it was asked for twice" if self.hurry else "the drain timeout is over"
        if self.connections:
            _log.warning("closing connections with commands under way (%s): %s", len(self.connections), why)
        for connection in list(self.connections):
            connection.abort()
        while self.connections:  # noqa: ASYNC110 - they are on their way; this is the end, not the data path
            await asyncio.sleep(0.01)


class Downstream(asyncio.Protocol):
    """A client's side of a connection."""

    def __init__(self, relay: Relay) -> None:
        self.session = Session(relay.shared)
        self._relay = relay
        self._transport: asyncio.Transport | None = None
        self._upstream: UpstreamProtocol | None = None
        self._pauses = _NO_PAUSE
        self._backlog: list[bytes] = []
        self._eof = False
        self._refusal = b""

    @property
    def peer(self) -> str:
        """The client's address; empty for a unix socket, or once it is gone."""
        name = self._transport.get_extra_info("peername") if self._transport is not None else None
        return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else ""

    @property
    def idle(self) -> bool:
        """Whether no command is under way, as far as can be told."""
        session = self.session
        return (
            self._upstream is not None
            and session.counting
            and session.commands == session.replies
            and not session.busy
            and not self._backlog
            and self._pauses is _NO_PAUSE
        )

    @property
    def awaits_reply(self) -> bool:
        """Whether Redis has yet to answer a command."""
        session = self.session
        return session.counting and session.commands != session.replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to Redis before anything is read, or before much is.

        A TLS connection that is not read from is dropped by uvloop when the client hangs up, with all that came.
        """
        transport = cast("asyncio.Transport", transport)  # a stream's transport, though uvloop's is no subclass
        self._transport = transport
        relay = self._relay
        if len(relay.connections) >= relay.max_connections or relay.draining:
            full = "ERR max number of clients reached"  # Redis's own words, which clients know
            self._refuse("ERR asynq-ttl is shutting down" if relay.draining else full)
            return
        relay.accepted += 1
        relay.connections.add(self)
        if transport.get_extra_info("sslcontext") is None:
            self.pause(Pause.CONNECTING)
        relay.spawn(self, self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._relay.connect(self)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
            if self._transport is None:
                self._end()
                return
            self._relay.connections.discard(self)
            self._refuse(f"ERR asynq-ttl: upstream {self._relay.control.upstream} is unavailable: {reason}")
            return
        self._upstream = upstream
        self._go_on()
        self.unpause(Pause.CONNECTING)
        self._leave()

    def _refuse(self, message: str) -> None:
        """Answer every command with an error that says why, for a moment, then hang up.

        Clients begin with commands whose errors they ignore, so that one answer might never be seen.
        """
        self._relay.refused += 1
        self._relay.turned_away.add(self)
        self._refusal = b"-" + message.replace("\r", " ").replace("\n", " ").encode() + b"\r\n"
        for data in self._backlog:
            self._answer_refused(data)
        self._backlog.clear()
        self.unpause(Pause.CONNECTING)
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self.close)

    def _answer_refused(self, data: bytes) -> None:
        if self._transport is None:
            return
        commands = self._relay.shared.whole.decode(data)
        self._transport.write(self._refusal * max(len(commands or ()), 1))
        if commands is None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Pass on what the client sends."""
        relay = self._relay
        if relay.command_due:
            relay.command_due = False
            started = time.perf_counter_ns()
            self.data_received(data)
            relay.measured(time.perf_counter_ns() - started, "command")
            return
        relay.bytes_from_clients += len(data)
        upstream = self._upstream
        if upstream is None or self._pauses is not _NO_PAUSE:
            if self._refusal:
                self._answer_refused(data)
                return
            if upstream is None or self.session.waiting_for is not None or self._backlog:
                self._hold(data)
                return
        session = self.session
        out = session.receive_downstream(data)
        if out:
            upstream.write(out)
        if session.taken_bytes and self._pauses is _NO_PAUSE:
            session.give_back()
        if session.waiting_for is not None:
            self._activate()
        if len(data) >= _TURN_BYTES:
            self.pause(Pause.TURN)
            asyncio.get_running_loop().call_soon(self.unpause, Pause.TURN)

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be passed on yet, and read no more if it gets much."""
        self._backlog.append(data)
        if self._upstream is None and (len(self._backlog) >= _EARLY_CHUNKS or len(data) > _EARLY_BYTES):
            self.pause(Pause.CONNECTING)

    def _activate(self) -> None:
        self.pause(Pause.ACTIVATING)
        self._relay.spawn(self, self._wait_for_activation())

    async def _wait_for_activation(self) -> None:
        while (script := self.session.waiting_for) is not None:
            await self._relay.control.activate(script)
            out = self.session.resume()
            if out and self._upstream is not None:
                self._upstream.write(out)
        self._go_on()
        if self.session.waiting_for is None:
            self.unpause(Pause.ACTIVATING)
        self._leave()

    def _go_on(self) -> None:
        """Work on what came in while nothing could be passed on."""
        while self._backlog and self._upstream is not None and self.session.waiting_for is None:
            data = self._backlog.pop(0)
            out = self.session.receive_downstream(data)
            if out:
                self._upstream.write(out)
        if self.session.waiting_for is not None:
            self._activate()
        elif self._eof and not self._backlog and self._upstream is not None:
            self._upstream.write_eof()

    def eof_received(self) -> bool:
        """Pass the end of the client's commands on; replies still go to it."""
        self._eof = True
        if self._refusal:
            return False
        self._go_on()
        # TLS cannot be closed on one side alone.
        return self._transport is not None and self._transport.can_write_eof()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Close the upstream connection with the client's, once Redis has what the client sent."""
        self._transport = None
        if self._upstream is None and not self._backlog:
            self._end()
        self._leave()

    def _leave(self) -> None:
        """Close the connection to Redis if the client has gone, once all that it sent is on its way."""
        held = self._backlog or self.session.waiting_for is not None
        if self._transport is None and self._upstream is not None and not held:
            self._upstream.close()

    def _end(self) -> None:
        """Count no more: nothing of this client is held any longer."""
        self._relay.connections.discard(self)
        self._relay.turned_away.discard(self)
        self._relay.closed_commands += self.session.commands
        self.session.close()

    def pause_writing(self) -> None:
        """Stop reading from Redis while the client is slow."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        """Read from Redis again."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def upstream_received(self, data: bytes) -> None:
        """Give the client what Redis sent, and take note of it."""
        relay = self._relay
        transport = self._transport
        if transport is not None:
            if relay.reply_due:
                relay.reply_due = False
                started = time.perf_counter_ns()
                transport.write(data)
                relay.measured(time.perf_counter_ns() - started, "reply")
            else:
                transport.write(data)
        relay.bytes_from_redis += len(data)
        self.session.receive_upstream(data)
        if len(data) >= _TURN_BYTES and self._upstream is not None:
            self._upstream.give_way()

    def upstream_lost(self) -> None:
        """Hang up when Redis has, once the client has what Redis sent."""
        self._end()
        self.close()

    def pause(self, reason: Pause) -> None:
        """Stop reading from the client for a reason."""
        if self._pauses is _NO_PAUSE and self._transport is not None:
            self._transport.pause_reading()
        self._pauses |= reason

    def unpause(self, reason: Pause) -> None:
        """Read again if no other reason is left."""
        was = self._pauses
        self._pauses &= ~reason
        if was and not self._pauses:
            self.session.give_back()
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def close(self) -> None:
        """Close the connection after what is buffered has been written."""
        if self._transport is not None:
            self._transport.close()

    def leave(self) -> None:
        """Read nothing more from the client, which is about to be hung up on; one that still connects is not."""
        if self._upstream is not None:
            self.pause(Pause.LEAVING)

    def hang_up(self) -> None:
        """Drop the upstream connection; the client still gets what Redis has sent."""
        if self._upstream is not None:
            self._upstream.abort()

    def abort(self) -> None:
        """Close both sides at once."""
        self.hang_up()
        if self._transport is not None:
            self._transport.abort()


class UpstreamProtocol(asyncio.Protocol):
    """Redis's side of a connection."""

    def __init__(self, downstream: Downstream) -> None:
        self._downstream = downstream
        self._transport: asyncio.Transport | None = None
        self.write: Callable[[bytes], None] = _discard
        self._held = False
        # What Redis sends is the client's, without a detour.
        self.data_received = downstream.upstream_received  # type: ignore[method-assign] # asyncio calls it all the same

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        transport = cast("asyncio.Transport", transport)  # a stream's transport, though uvloop's is no subclass
        self._transport = transport
        self.write = transport.write

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        """Close the client's connection with Redis's."""
        self._transport = None
        self.write = _discard
        self._downstream.upstream_lost()

    def pause_writing(self) -> None:
        """Stop reading from the client while Redis is slow."""
        self._downstream.pause(Pause.FULL)

    def resume_writing(self) -> None:
        """Read from the client again."""
        self._downstream.unpause(Pause.FULL)

    def pause_reading(self) -> None:
        """Stop reading from Redis."""
        self._held = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read from Redis again."""
        self._held = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def give_way(self) -> None:
        """Read from Redis again when the others have had their turn, unless the client is slow."""
        if not self._held:
            self.pause_reading()
            self._held = False
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        if not self._held:
            self.resume_reading()

    def write_eof(self) -> None:
        """Tell Redis that no more commands come."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        if self._transport is not None:
            self._transport.abort()


def _forget(_nanoseconds: int, _direction: str) -> None:
    """Measure for nobody."""


def _discard(_data: bytes) -> None:
    """Write to a connection that is gone."""
