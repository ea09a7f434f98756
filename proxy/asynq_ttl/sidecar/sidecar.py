"""One sidecar: its parts, put together, from listening to drained.

Each part does its own work; here is in which order they begin and end, and who hears of whom. It knows no process: no
signal, no command line.
"""

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from asynq_ttl.events import Activated
from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Listener
from asynq_ttl.net.systemd import Inheritance
from asynq_ttl.net.tls import Context, listener_context
from asynq_ttl.net.watched_files import FileWatch, Watched
from asynq_ttl.policy.rules import Policy
from asynq_ttl.relay.client_login import Gate, Guard
from asynq_ttl.relay.latency_probe import beat
from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.holding import Room
from asynq_ttl.session.shared import Shared
from asynq_ttl.sidecar.background import Background, within
from asynq_ttl.sidecar.cluster_nodes import ClusterNodes
from asynq_ttl.sidecar.figures import (
    register_background,
    register_handover,
    register_policy,
    register_traffic,
    register_upstream,
)
from asynq_ttl.sidecar.node_figures import register_nodes
from asynq_ttl.sidecar.policy_in_force import PolicyInForce
from asynq_ttl.sidecar.rights import tell_missing
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sweep.handover import Handover
from asynq_ttl.sweep.part import WHOLE, Part
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.telemetry.cluster_signs import Sign
from asynq_ttl.telemetry.decision_log import DecisionLog, register_decision_log
from asynq_ttl.telemetry.node_telemetry import NodeTelemetry
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.upstream.sentinels import Sentinels
from asynq_ttl.wire.commands import WholeCommands

_log = logging.getLogger("asynq_ttl.server")

# How long giving back the lock, and closing connections to Redis, may take.
_CLOSE_SECONDS = 0.7
# How long a connection that the kernel has accepted may take to reach the relay.
_ACCEPTED_SECONDS = 0.05
# How long it may take to find the master before clients are let in all the same.
_FIND_SECONDS = 2.0


class StartError(Exception):
    """The sidecar, or what runs beside it, cannot start; the message says why and what to do."""


class Sidecar:
    """One sidecar in a running event loop.

    Args:
        settings: how it is run.
        policy: the policy it starts with.
        telemetry: who is told what it does.
        endpoint: where Redis is; None for what the settings say.
    """

    def __init__(
        self, settings: Settings, policy: Policy, telemetry: Telemetry, endpoint: Endpoint | None = None
    ) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.started_ns = time.time_ns()
        self.stop = asyncio.Event()
        """Set to let the sidecar drain and end."""
        self.listening: Address | None = None
        """Where clients can connect; None before and after."""
        self.registry = ScriptRegistry()
        self.in_force = PolicyInForce(policy, settings, telemetry, self._use)
        self.endpoint = endpoint or endpoint_of(settings)
        self.tls = listener_context(settings.access.tls) if settings.access.tls is not None else None
        self.files = FileWatch(self._watched())
        self.guard = _guard(settings, self.endpoint)
        self.shared = _shared(settings, self.registry, self.in_force.rewriter, telemetry, self.guard)
        self.sentinels = Sentinels(self.endpoint, self) if settings.upstream.sentinels else None
        self.control = ControlConnection(
            self.endpoint, self.registry, self._activated, lambda: telemetry.cluster.note(Sign.MODE)
        )
        self.decision_log = _decision_log(settings, telemetry)
        self.handover = Handover(settings.sink.open(), str(settings.sink)) if settings.sink else None
        self.sweeper = self._sweeper(self.endpoint)
        self.relay = Relay(
            self.shared, self.endpoint, self.control, telemetry, max_connections=settings.max_connections
        )
        self._inheritance = Inheritance()
        self.background = Background()
        self.nodes = self._cluster_nodes()
        register_background(telemetry.metrics, self.background)
        register_traffic(telemetry.metrics, self.relay)
        register_upstream(telemetry.metrics, lambda: self.upstream_problem, self.sentinels)
        register_nodes(telemetry.metrics, lambda: self.nodes)
        register_handover(telemetry.metrics, self.handover)
        register_policy(telemetry.metrics, self.in_force, self.registry, lambda: self.sweepers)

    @property
    def problem(self) -> str:
        """Why no client should come now; empty if one may."""
        if self.listening is None:
            return "starting" if not self.relay.draining else "stopped"
        if self.relay.draining or self.stop.is_set():
            return "draining"
        return f"upstream {self.settings.upstream}: {self.upstream_problem}" if self.upstream_problem else ""

    def _sweeper(self, endpoint: Endpoint, part: Part = WHOLE) -> Sweeper:
        """Return what sweeps at an endpoint."""
        return Sweeper(
            endpoint,
            lambda: self.in_force.rewriter.reach,
            self.shared.databases,
            self.telemetry if part is WHOLE else NodeTelemetry(self.telemetry, endpoint),
            interval_seconds=self.settings.sweep_seconds,
            handover=self.handover,
            began=self.started_ns / 1e9,
            part=part,
        )

    @property
    def sweepers(self) -> list[Sweeper]:
        """What sweeps: one, or one for each master of a cluster."""
        return [self.sweeper] if self.nodes is None else self.nodes.sweepers

    @property
    def upstream_problem(self) -> str:
        """Why Redis cannot be used; empty when it can."""
        return self.control.problem if self.nodes is None else self.nodes.problem

    def _cluster_nodes(self) -> ClusterNodes | None:
        """Return what knows the nodes of a cluster; None without one."""
        if not self.settings.upstream.nodes:
            return None
        return ClusterNodes(
            self.endpoint,
            self.settings.cluster_ports or range(0),
            announce=self.settings.announce or "",
            relay=self.relay,
            shared=self.shared,
            background=self.background,
            observer=partial(NodeTelemetry, self.telemetry),
            sweeper=self._sweeper if self.settings.sweep_seconds > 0 else None,
        )

    @property
    def trouble(self) -> str:
        """What does not keep clients from coming, and has to be looked at all the same; empty where there is none."""
        parts = self.handover, self.decision_log
        return "; ".join(part.problem for part in parts if part is not None and part.problem)

    def _contexts(self) -> list[Context]:
        """Return the TLS contexts that are made of files."""
        listener = [self.tls[1]] if self.tls is not None else []
        return listener + [each for each in (self.endpoint.tls,) if each is not None and each.files]

    def _watched(self) -> Iterator[Watched]:
        """Yield the files that are watched. Those of passwords are not: they are read each time they are used."""
        if self.settings.policy_file is not None:
            yield Watched((self.settings.policy_file,), self.in_force.reload)
        for context in self._contexts():
            yield Watched(context.files, context.reload)

    def end(self) -> None:
        """Drain and end; asked for it twice, end at once."""
        if self.stop.is_set():
            _log.info("asked again to end: not waiting for commands under way")
            self.relay.end_drain()
        self.stop.set()

    def _activated(self, activated: Activated) -> None:
        """Tell of a wrapper that was loaded or was not."""
        self.telemetry.activated(activated)

    async def leave_master(self, seconds: float) -> None:
        """Hang up on all clients (`sentinels.Follower`): what the master still takes would be lost with it."""
        await self.relay.hang_up(seconds)

    async def follow_to(self, before: Address | None, now: Address, start_ns: int) -> None:
        """Get ready at another master (`sentinels.Follower`)."""
        self.telemetry.spans.name_server(now)
        if before is not None:
            await self.control.reload()
            self.telemetry.switched(str(before), str(now), start_ns)

    def reload_all(self) -> None:
        """Read policy and certificates again, as SIGHUP asks for."""
        for context in self._contexts():
            context.reload()
        if self.settings.policy_file is not None or not self._contexts():
            self.in_force.reload()

    def _use(self, rewriter: Rewriter) -> None:
        """Let every session decide by another policy (`PolicyInForce`)."""
        self.shared.use(rewriter)
        if self.nodes is not None:
            self.nodes.use(rewriter)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        """Serve while the block runs, then drain. Yields the address it listens at (the port is a real one).

        However it is left, also while it begins, all that was begun ends.

        Raises:
            ListenError: the listening address cannot be used.
        """
        listener = self._listener_at(self.settings.listen, self._accept, self._inheritance.rest)
        async with AsyncExitStack() as at_nodes:
            try:
                await self._begin()
                if self.nodes is not None:
                    await at_nodes.enter_async_context(self.nodes.listening(self.settings.listen, self._node_listener))
                await listener.start()
                self.listening = listener.address
                yield self.listening
            finally:
                listener.close()
                await at_nodes.aclose()
                # What was accepted before has yet to reach the relay; it is served, not refused.
                await asyncio.sleep(_ACCEPTED_SECONDS)
                await self.relay.drain(self.settings.drain_seconds)
                self.listening = None
                await self.background.end()
                await within(_CLOSE_SECONDS, *self._endings())
                await asyncio.to_thread(self.telemetry.shutdown)

    def _endings(self) -> list[Coroutine[None, None, None]]:
        """Return what closes the sidecar's own connections."""
        endings = [self.telemetry.finish_spans(), self.sweeper.close(), self.control.close()]
        if self.handover is not None:
            endings.append(self.handover.close())
        if self.decision_log is not None:
            endings.append(asyncio.to_thread(self.decision_log.close, _CLOSE_SECONDS))
        return endings if self.nodes is None else [*endings, self.nodes.close()]

    def _listener_at(
        self,
        listen: Address,
        accept: Callable[[], asyncio.Protocol],
        inherited: Callable[[], Sequence[socket.socket]],
    ) -> Listener:
        return Listener(
            listen,
            accept,
            self.tls[0] if self.tls is not None else None,
            sharing=self.settings.sharing,
            keepalive_seconds=self.settings.keepalive_seconds,
            inherited=inherited,
        )

    async def _begin(self) -> None:
        """Begin what runs beside the data path."""
        if self.decision_log is not None:
            self.decision_log.start()
        start = self.background.start
        start("the latency probe", partial(beat, self.relay.traffic, self.telemetry))
        if self.sentinels is not None:
            for address in self.settings.upstream.sentinels:
                start(f"following Sentinel {address}", partial(self.sentinels.follow, address))
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIND_SECONDS):
                    await self.sentinels.found.wait()
        if self.nodes is not None:
            start("following the cluster", self.nodes.cluster.follow)
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIND_SECONDS):
                    await self.nodes.cluster.found.wait()
        else:
            start("the control connection", self.control.run)
            start("the look at rights", partial(tell_missing, self.endpoint, self.settings))
        if self.files.watches:
            start("the watch of files", self.files.run)
        if self.settings.sweep_seconds > 0 and self.nodes is None:
            start("the sweeper", self.sweeper.run)

    def _accept(self) -> asyncio.Protocol:
        return self._let_in(self.relay.accept if self.nodes is None else self.nodes.accept)

    def _node_listener(self, listen: Address, accept: Callable[[], asyncio.Protocol]) -> Listener:
        """Return what listens at the port of a node."""
        return self._listener_at(listen, lambda: self._let_in(accept), lambda: self._inheritance.at((listen.port,)))

    def _let_in(self, accept: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """Return the protocol of a new connection, which is asked for a password first where that is wanted."""
        return accept() if self.guard is None else Gate(self.guard, accept)


def endpoint_of(settings: Settings) -> Endpoint:
    """Return where Redis is, and how connections to it begin.

    Raises:
        TlsError: a certificate, key or CA file cannot be used.
    """
    return Endpoint(settings.upstream, logs_in=settings.access.logs_in, keepalive_seconds=settings.keepalive_seconds)


def _decision_log(settings: Settings, telemetry: Telemetry) -> DecisionLog | None:
    """Return the decision log, which is told all that the journal is told from now on; None where there is none."""
    recent = telemetry.recent
    log = settings.decisions.open(task_ids=recent.task_ids) if settings.decisions is not None else None
    register_decision_log(telemetry.metrics, log)
    if log is not None:
        recent.tell(log.add)
    return log


def _guard(settings: Settings, endpoint: Endpoint) -> Guard | None:
    """Return what asks clients for a password of the sidecar's own; None where they show Redis theirs, or nothing."""
    file = settings.access.password_file
    return Guard(file, settings.max_connections, endpoint.credentials) if file is not None else None


def _shared(
    settings: Settings, registry: ScriptRegistry, rewriter: Rewriter, telemetry: Telemetry, guard: Guard | None
) -> Shared:
    """Return what all sessions share."""
    return Shared(
        registry=registry,
        rewriter=rewriter,
        observer=telemetry,
        clock=time.time_ns,
        whole=WholeCommands(),
        databases={0, settings.upstream.database},
        room=Room(settings.max_held_mib * 1024 * 1024),
        login=guard.again if guard is not None else None,
    )
