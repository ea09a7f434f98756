"""The two sides of one client's connection: bytes go over from one to the other.

What goes to Redis instead of what came is decided in `Session`; here are sockets and back-pressure. Each direction
stops reading while the other side's write buffer is full, so a slow or dead peer costs bounded memory and nothing else.
A connection that has much to say gets one large chunk in each turn of the loop, so it keeps nobody waiting.

Who closes what: a client that hangs up takes its connection to Redis with it, once all that it sent is on its way;
when Redis hangs up, the client is hung up on, once it has all that Redis sent.
A connection knows the others only as `OpenConnections`, which the relay is.
`pass_on` and `pass_back` say what becomes of a chunk. For nearly every chunk the same is also compiled (`forwarding`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Protocol, cast

from asynq_ttl.relay.forwarding import NO_PAUSE, TURN_BYTES, Pause, forward
from asynq_ttl.relay.traffic import Traffic
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.session import Dialogue, Session
from asynq_ttl.session.shared import Shared

# A client that is refused is told why for this long.
_REFUSAL_SECONDS = 2.0
# What a TLS client may send before Redis is connected to: so many chunks, or a larger one. (Security limits.)
_EARLY_CHUNKS = 16
_EARLY_BYTES = 4096


class OpenConnections(Protocol):
    """All the connections, as one of them sees them."""

    @property
    def shared(self) -> Shared:
        """What all sessions share."""

    @property
    def traffic(self) -> Traffic:
        """The counters of what passes."""

    def unavailable(self, reason: str) -> str:
        """Return the error for a client that cannot be connected to Redis."""

    def admit(self, connection: "Downstream") -> str:
        """Take a new client in; return the error that it is answered with instead where it may not stay."""

    def turn_away(self, connection: "Downstream") -> None:
        """Count a client as refused: it is told why, and then hung up on."""

    def ended(self, connection: "Downstream") -> None:
        """Forget a connection: nothing of its client is held any longer."""

    async def connect(self, connection: "Downstream") -> "UpstreamProtocol":
        """Open a client's connection to Redis; OSError or TimeoutError where that cannot be reached."""

    async def activate(self, script: Script) -> None:
        """Load a script's wrapper into Redis, or give up after a while."""

    def spawn(self, connection: "Downstream", work: Coroutine[None, None, None]) -> None:
        """Do what a connection waits for; close it if that raises, so that its client does not wait for ever."""


class Downstream(asyncio.Protocol):
    """A client's side of a connection; `others` are all the connections there are."""

    __slots__ = "_backlog", "_eof", "_others", "_pauses", "_refusal", "_traffic", "_transport", "_upstream", "session"

    def __init__(self, others: OpenConnections) -> None:
        self.session: Dialogue = Session(others.shared)
        self._others = others
        self._traffic = others.traffic
        self._transport: asyncio.Transport | None = None
        self._upstream: UpstreamProtocol | None = None
        self._pauses = NO_PAUSE
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
            and self._pauses is NO_PAUSE
        )

    @property
    def awaits_reply(self) -> bool:
        """Whether Redis has yet to answer a command."""
        return self.session.counting and self.session.commands != self.session.replies

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect to Redis before anything is read, or before much is.

        A TLS connection that is not read from is dropped by uvloop when the client hangs up, with all that came.
        """
        transport = cast("asyncio.Transport", transport)  # a stream's transport, though uvloop's is no subclass
        self._transport = transport
        refusal = self._others.admit(self)
        if refusal:
            self._refuse(refusal)
            return
        if transport.get_extra_info("sslcontext") is None:
            self.pause(Pause.CONNECTING)
        self._others.spawn(self, self._connect())

    async def _connect(self) -> None:
        try:
            upstream = await self._others.connect(self)
        except (OSError, TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
            if self._transport is None:
                self._end()
                return
            self._refuse(self._others.unavailable(reason))
            return
        self._upstream = upstream
        self._go_on()
        self.unpause(Pause.CONNECTING)
        self._follow_client()

    def _refuse(self, message: str) -> None:
        """Answer every command with an error that says why, for a moment, then hang up.

        Clients begin with commands whose errors they ignore, so that one answer might never be seen.
        """
        self._others.turn_away(self)
        self._refusal = b"-" + message.replace("\r", " ").replace("\n", " ").encode() + b"\r\n"
        for data in self._backlog:
            self._answer_refused(data)
        self._backlog.clear()
        self.unpause(Pause.CONNECTING)
        asyncio.get_running_loop().call_later(_REFUSAL_SECONDS, self.close)

    def _answer_refused(self, data: bytes) -> None:
        if self._transport is None:
            return
        commands = self._others.shared.whole.decode(data)
        self._transport.write(self._refusal * max(len(commands or ()), 1))
        if commands is None:
            self._transport.close()

    def pass_on(self, data: bytes) -> None:
        """Pass on what the client sends."""
        traffic = self._traffic
        if traffic.command_due:
            traffic.time_command(self.data_received, data)
            return
        traffic.bytes_from_clients += len(data)
        upstream = self._upstream
        if upstream is None or self._pauses is not NO_PAUSE:
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
        if session.holding.taken_bytes and self._pauses is NO_PAUSE:
            session.give_back()
        if session.waiting_for is not None:
            self.activate()
        if len(data) >= TURN_BYTES:
            self.pause(Pause.TURN)
            asyncio.get_running_loop().call_soon(self.unpause, Pause.TURN)

    data_received = pass_on

    def _hold(self, data: bytes) -> None:
        """Keep what cannot be passed on yet, and read no more if it gets much."""
        self._backlog.append(data)
        if self._upstream is None and (len(self._backlog) >= _EARLY_CHUNKS or len(data) > _EARLY_BYTES):
            self.pause(Pause.CONNECTING)

    def activate(self) -> None:
        """Wait for the wrapper of the script that the session waits for."""
        self.pause(Pause.ACTIVATING)
        self._others.spawn(self, self._wait_for_activation())

    async def _wait_for_activation(self) -> None:
        while (script := self.session.waiting_for) is not None:
            await self._others.activate(script)
            out = self.session.resume()
            if out and self._upstream is not None:
                self._upstream.write(out)
        self._go_on()
        if self.session.waiting_for is None:
            self.unpause(Pause.ACTIVATING)
        self._follow_client()

    def _go_on(self) -> None:
        """Work on what came in while nothing could be passed on."""
        while self._backlog and self._upstream is not None and self.session.waiting_for is None:
            data = self._backlog.pop(0)
            out = self.session.receive_downstream(data)
            if out:
                self._upstream.write(out)
        if self.session.waiting_for is not None:
            self.activate()
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
        self._follow_client()

    def _follow_client(self) -> None:
        """Close the connection to Redis if the client has gone, once all that it sent is on its way."""
        held = self._backlog or self.session.waiting_for is not None
        if self._transport is None and self._upstream is not None and not held:
            self._upstream.close()

    def _end(self) -> None:
        """Count no more: nothing of this client is held any longer."""
        self._others.ended(self)
        self.session.close()

    def pause_writing(self) -> None:
        """Stop reading from Redis while the client is slow."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_writing(self) -> None:
        """Read from Redis again."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def pass_back(self, data: bytes) -> None:
        """Give the client what Redis sent, and take note of it."""
        traffic, transport, session = self._traffic, self._transport, self.session
        write: Callable[[bytes], None] = _discard if transport is None else transport.write
        give, note = write, session.receive_upstream
        if session.marks:  # rare: a task may have been replaced
            give, note = lambda replies: write(session.unmark(replies)), _discard
        if traffic.reply_due and transport is not None:
            traffic.time_reply(give, note, data)
        else:
            give(data)
            note(data)
        traffic.bytes_from_redis += len(data)
        if len(data) >= TURN_BYTES and self._upstream is not None:
            self._upstream.give_way()

    upstream_received = pass_back

    def upstream_lost(self) -> None:
        """Hang up when Redis has, once the client has what Redis sent."""
        self._end()
        self.close()

    def pause(self, reason: Pause) -> None:
        """Stop reading from the client for a reason."""
        if self._pauses is NO_PAUSE and self._transport is not None:
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

    def stop_reading(self) -> None:
        """Read nothing more from the client, which is about to be hung up on; one that still connects is not."""
        if self._upstream is not None:
            self.pause(Pause.HANGING_UP)

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

    __slots__ = ("_downstream", "_held", "_transport", "data_received", "write")

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


def _discard(_data: bytes) -> None:
    """Take bytes that nobody needs: their connection is gone, or note has been taken of them."""


forward(Downstream, UpstreamProtocol)
