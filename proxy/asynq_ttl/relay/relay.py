"""All connections of a sidecar: which clients are let in, and how they are hung up on.

Each client has an upstream connection of its own. What is on a connection is the business of `connection`.

Invariants:

* A client is in `connections` from when it was let in until nothing of it is held any longer, or until it is refused.
* Work that a connection waits for either ends or closes it.
"""

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial

from asynq_ttl.events import LatencyObserver
from asynq_ttl.relay.connection import Downstream, UpstreamProtocol
from asynq_ttl.relay.traffic import Traffic
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.session.shared import Shared
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.relay")

# All idle connections are closed in this many steps.
_DRAIN_CHUNKS = 20
_DRAIN_STEP_SECONDS = 0.02
_FIRST_COMMAND_SECONDS = 0.3
_HANG_UP_STEP_SECONDS = 0.002


class Relay:
    """All connections of a sidecar.

    Args:
        shared: what all sessions share.
        endpoint: where Redis is.
        control: the sidecar's own connection, which loads wrappers.
        observer: who is told how long chunks of bytes are held.
        max_connections: more clients than this are refused.
    """

    def __init__(
        self,
        shared: Shared,
        endpoint: Endpoint,
        control: ControlConnection,
        observer: LatencyObserver,
        *,
        max_connections: int,
    ) -> None:
        self.shared = shared
        self.control = control
        self.traffic = Traffic(observer)
        self.draining = False
        """Whether every new client is refused, since the sidecar is about to end."""
        self.connections: set[Downstream] = set()
        self.turned_away: set[Downstream] = set()
        """Refused clients that are being told why."""
        self.accepted = 0
        self.refused = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self._endpoint = endpoint
        self._max_connections = max_connections
        self._closed_commands = 0
        self._hurry = False

    @property
    def commands(self) -> int:
        """Commands forwarded so far."""
        # A copy, since metrics are collected on other threads.
        return self._closed_commands + sum(connection.session.commands for connection in tuple(self.connections))

    # --- what connections ask for (`OpenConnections`) --------------------------------------------------------------

    def unavailable(self, reason: str) -> str:
        """Return the error for a client that cannot be connected to Redis."""
        return f"ERR asynq-ttl: upstream {self.control.upstream} is unavailable: {reason}"

    def admit(self, connection: Downstream) -> str:
        """Take a new client in; return the error that it is answered with instead where it may not stay."""
        if self.draining:
            return "ERR asynq-ttl is shutting down"
        if len(self.connections) >= self._max_connections:
            return "ERR max number of clients reached"  # Redis's own words, which clients know
        self.accepted += 1
        self.connections.add(connection)
        return ""

    def turn_away(self, connection: Downstream) -> None:
        """Count a client as refused: it is told why, and then hung up on."""
        self.connections.discard(connection)
        self.turned_away.add(connection)
        self.refused += 1

    def ended(self, connection: Downstream) -> None:
        """Forget a connection: nothing of its client is held any longer."""
        self.connections.discard(connection)
        self.turned_away.discard(connection)
        self._closed_commands += connection.session.commands

    async def connect(self, connection: Downstream) -> UpstreamProtocol:
        """Open the upstream connection of a client.

        Raises:
            OSError: Redis cannot be reached.
            TimeoutError: it does not answer in time.
        """
        return await self._endpoint.open(lambda: UpstreamProtocol(connection))

    async def activate(self, script: Script) -> None:
        """Load a script's wrapper into Redis, or give up after a while."""
        await self.control.activate(script)

    def spawn(self, connection: Downstream, work: Coroutine[None, None, None]) -> None:
        """Do what a connection waits for; close it if that raises, so that its client does not wait for ever."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(partial(self._done, connection))

    def _done(self, connection: Downstream, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("closing a connection: %s", type(error).__name__, exc_info=error)
            connection.abort()

    # --- what the sidecar asks for ----------------------------------------------------------------------------

    def accept(self) -> Downstream:
        """Return the protocol of a new client connection (a protocol factory for asyncio)."""
        return Downstream(self)

    async def hang_up(self, seconds: float) -> None:
        """Close every connection as Redis does when it goes away: what is on its way to it is dropped.

        Args:
            seconds: how long what is under way is waited for. Meanwhile nothing is read from clients.
        """
        for connection in self.connections:
            connection.stop_reading()
        for _ in range(round(seconds / _HANG_UP_STEP_SECONDS)):
            if not any(connection.awaits_reply for connection in self.connections):
                break
            await asyncio.sleep(_HANG_UP_STEP_SECONDS)
        for connection in tuple(self.connections):
            connection.hang_up()
        for connection in tuple(self.turned_away):
            connection.close()

    async def drain(self, timeout_seconds: float) -> None:
        """Close each connection at a moment when nothing is under way on it; after the timeout, in any case.

        They go a few at a time, so that their clients do not all connect anew at once, and pub/sub goes last.
        """
        self.draining = True
        loop = asyncio.get_running_loop()
        started = loop.time()
        chunk = max(len(self.connections) // _DRAIN_CHUNKS, 1)
        while self.connections and loop.time() < started + timeout_seconds and not self._hurry:
            # One that has just been accepted may be about to send its first command.
            fresh = loop.time() < started + _FIRST_COMMAND_SECONDS
            for connection in self._closable(fresh=fresh)[:chunk]:
                connection.close()
            await asyncio.sleep(_DRAIN_STEP_SECONDS)
        why = "it was asked for twice" if self._hurry else "the drain timeout is over"
        if self.connections:
            _log.warning("closing connections with commands under way (%s): %s", len(self.connections), why)
        for connection in list(self.connections):
            connection.abort()
        while self.connections:  # noqa: ASYNC110 - they are on their way; this is the end, not the data path
            await asyncio.sleep(0.01)

    def end_drain(self) -> None:
        """Wait no longer for commands under way: close all connections now."""
        self._hurry = True

    def _closable(self, *, fresh: bool) -> list[Downstream]:
        """Return the connections that a drain may close; fresh ones only once they have sent a command."""
        idle = [each for each in self.connections if each.idle and (each.session.commands or not fresh)]
        if idle:
            return idle
        # Connections whose replies cannot be counted (pub/sub) are idle for all we know.
        uncounted = [connection for connection in self.connections if not connection.session.counting]
        return uncounted if len(uncounted) == len(self.connections) else []
