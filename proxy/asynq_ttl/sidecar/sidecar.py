"""The running sidecar: listener, relay, control connection, policy reloads, signals, drain."""

import asyncio
import gc
import logging
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import Change, awatch

from asynq_ttl.events import Activated
from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Listener
from asynq_ttl.net.systemd import Notice, tell
from asynq_ttl.net.tls import Context, listener_context, watch_certificates
from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy
from asynq_ttl.policy_file.load import load_policy
from asynq_ttl.policy_file.yaml_tree import PolicyError
from asynq_ttl.relay.client_login import Gate, Guard
from asynq_ttl.relay.latency_probe import beat
from asynq_ttl.relay.relay import Relay
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from asynq_ttl.session.holding import Room
from asynq_ttl.session.session import Shared
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sweep.handover import Handover
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.telemetry.cluster_signs import Sign
from asynq_ttl.telemetry.moved_ids import BulkIds
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.upstream.sentinels import Sentinels
from asynq_ttl.wire.commands import WholeCommands

_log = logging.getLogger("asynq_ttl.server")

_CANCEL_SECONDS = 0.2
_ACCEPTED_SECONDS = 0.05
# How long the master is looked for before clients are let in.
_FIND_SECONDS = 2.0
# Objects that are made before the garbage collector looks at them.
_COLLECT_AFTER = 10_000
# File descriptors besides two for each client: the sidecar's own connections, exporters, the policy watcher.
_OTHER_FILES = 64


class StartError(Exception):
    """The sidecar, or what runs beside it, cannot start; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of reading the policy file.

    Attributes:
        at_ns: when, nanoseconds since the epoch.
        faults: what is wrong with the file; empty if it is in force.
    """

    at_ns: int
    faults: tuple[str, ...] = ()


class Sidecar:
    """One sidecar in a running event loop.

    Args:
        settings: how it is run.
        policy: the policy it starts with.
        telemetry: who is told what it does.
    """

    def __init__(self, settings: Settings, policy: Policy, telemetry: Telemetry) -> None:
        self.settings = settings
        self.telemetry = telemetry
        self.registry = ScriptRegistry()
        self.policy = policy
        """The policy in force, as it was read: a pause does not change it."""
        self.paused = False
        """Whether rewriting is paused."""
        self.stop = asyncio.Event()
        """Set to let the sidecar drain and end."""
        self.last_reload = Reload(time.time_ns())
        self.started_ns = time.time_ns()
        self.listening: Address | None = None
        """Where clients can connect; None before and after."""
        self._healed: set[str] = set()
        access = settings.access
        self.shared = Shared(
            registry=self.registry,
            rewriter=self._rewriter(),
            observer=telemetry,
            clock=time.time_ns,
            whole=WholeCommands(),
            databases={0, settings.upstream.database},
            room=Room(settings.max_held_mib * 1024 * 1024),
        )
        self.endpoint = Endpoint(
            settings.upstream, logs_in=access.logs_in, keepalive_seconds=settings.keepalive_seconds
        )
        self.tls = listener_context(access.tls) if access.tls is not None else None
        self.guard: Guard | None = None
        if access.password_file is not None:
            self.guard = Guard(access.password_file, settings.max_connections, self.endpoint.credentials)
            self.shared.login = self.guard.again
        self.sentinels = Sentinels(self.endpoint, self) if settings.upstream.sentinels else None
        self.control = ControlConnection(
            self.endpoint, self.registry, self._activated, lambda: telemetry.cluster.note(Sign.MODE)
        )
        self.sweeper = Sweeper(
            self.endpoint,
            lambda: self.shared.rewriter.reach,
            self.shared.databases,
            telemetry,
            interval_seconds=settings.sweep_seconds,
            handover=Handover(settings.sink.open(), str(settings.sink)) if settings.sink else None,
        )
        self.bulk_ids = BulkIds(self.endpoint)
        telemetry.spans.look_up = self.bulk_ids.ask
        self.relay = Relay(self.shared, self.endpoint, self.control, max_connections=settings.max_connections)
        self._register_metrics()

    @property
    def problem(self) -> str:
        """Why no client should come now; empty where none speaks against it."""
        if self.listening is None:
            return "starting" if not self.relay.draining else "stopped"
        if self.relay.draining or self.stop.is_set():
            return "draining"
        return f"upstream {self.settings.upstream}: {self.control.problem}" if self.control.problem else ""

    def _contexts(self) -> list[Context]:
        """Return the TLS contexts that are made of files."""
        listener = [self.tls[1]] if self.tls is not None else []
        return listener + [each for each in (self.endpoint.tls,) if each is not None and each.files]

    def end(self) -> None:
        """Drain and end; asked for it twice, end at once."""
        if self.stop.is_set():
            _log.info("asked again to end: not waiting for commands under way")
            self.relay.hurry = True
        self.stop.set()

    def _activated(self, activated: Activated) -> None:
        """Let go of what was remembered with another status of a wrapper, and tell."""
        self.shared.rewriter.polls.clear()
        self.telemetry.activated(activated)

    async def leave(self, seconds: float) -> None:
        """Let go of the master (`sentinel.Follower`): it may still take commands, and forget them."""
        await self.relay.leave(seconds)

    async def arrive(self, before: Address | None, now: Address, start_ns: int) -> None:
        """Get ready at another master (`sentinel.Follower`)."""
        self.telemetry.spans.moved(now)
        if before is not None:
            await self.control.arrive()
            self.telemetry.switched(str(before), str(now), start_ns)

    def reload_all(self) -> None:
        """Read policy and certificates again, as SIGHUP asks for."""
        for context in self._contexts():
            context.reload()
        if self.settings.policy_file is not None or not self._contexts():
            self.reload()

    def reload(self) -> Reload:
        """Read the policy file again; on any fault keep the policy in force and say why."""
        path, started = self.settings.policy_file, time.time_ns()
        if path is None:
            _log.warning("there is no policy file to reload: the built-in default is in force")
            return Reload(started, ("there is no policy file to reload",))
        try:
            policy = load_policy(path)
        except PolicyError as error:
            faults = tuple(str(fault) for fault in error.faults)
            old = self.policy
            trace_id = self.telemetry.reloaded(old.digest, old.mode.value, started, "; ".join(faults[:10]))
            trace = {"trace_id": trace_id}
            for fault in faults:
                _log.error("policy not reloaded, the old one stays in force: %s", fault, extra=trace)
            self.last_reload = Reload(started, faults)
            return self.last_reload
        self.policy = policy
        self.shared.rewriter = self._rewriter()
        trace_id = self.telemetry.reloaded(policy.digest, policy.mode.value, started, "")
        message = "policy %s (%s) is in force, mode %s"
        _log.info(message, policy.source, policy.digest, policy.mode.value, extra={"trace_id": trace_id})
        self.last_reload = Reload(started)
        return self.last_reload

    def pause(self, *, paused: bool) -> None:
        """Pause rewriting, or go on with it.

        While it is paused the policy is in shadow mode: no task gets a TTL, and none is removed or trimmed by it. What
        this process has enforced before is still healed: TTLs come off tasks that live again, and what is due is swept,
        since its key would expire without its index entry otherwise.
        """
        if paused == self.paused:
            return
        self.paused = paused
        self.shared.rewriter = self._rewriter()
        self.telemetry.happened(
            "pause" if paused else "resume", f"mode {self.shared.rewriter.policy.mode.value} is in force"
        )

    def _rewriter(self) -> Rewriter:
        policy = self.policy.shadowed() if self.paused else self.policy
        return Rewriter(policy, self._healed, self.settings.trace_path)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        """Serve while the block runs, then drain. Yields the address it listens at (the port is a real one)."""
        loop = asyncio.get_running_loop()
        background = [loop.create_task(beat(self.relay, self.telemetry))]
        if self.sentinels is not None:
            named = self.settings.upstream.sentinels
            background += [loop.create_task(self.sentinels.follow(address)) for address in named]
            with suppress(TimeoutError):
                await asyncio.wait_for(self.sentinels.found.wait(), _FIND_SECONDS)
        background.append(loop.create_task(self.control.run()))
        if self.settings.policy_file is not None:
            background.append(loop.create_task(self._watch(self.settings.policy_file)))
        if contexts := self._contexts():
            background.append(loop.create_task(watch_certificates(contexts)))
        if self.settings.sweep_seconds > 0:
            background.append(loop.create_task(self.sweeper.run()))
        listener = Listener(
            self.settings.listen,
            self._accept,
            self.tls[0] if self.tls is not None else None,
            reuse_port=self.settings.reuse_port,
            keepalive_seconds=self.settings.keepalive_seconds,
        )
        await listener.start()
        self.listening = listener.address
        try:
            yield self.listening
        finally:
            listener.close()
            # What was accepted before has yet to reach the relay; it is served, not refused.
            await asyncio.sleep(_ACCEPTED_SECONDS)
            self.relay.draining = True
            await self.relay.drain(self.settings.drain_seconds)
            self.listening = None
            await _end(background)
            await self.bulk_ids.close()
            await self.sweeper.close()
            await self.control.close()
            await asyncio.to_thread(self.telemetry.shutdown)

    def _accept(self) -> asyncio.Protocol:
        return self.relay.accept() if self.guard is None else Gate(self.guard, self.relay.accept)

    async def _watch(self, path: Path) -> None:
        """Reload the policy whenever the file's content changes, however it is replaced."""
        content = _content(path)

        # Kubernetes replaces a mounted file by renaming a directory beside it, whose name starts with two dots.
        def concerns(_change: Change, changed: str) -> bool:
            return Path(changed).name == path.name or Path(changed).name.startswith("..")

        async for _ in awatch(path.parent, watch_filter=concerns, step=100, recursive=False):
            latest = _content(path)
            if latest is not None and latest != content:
                content = latest
                self.reload()

    def _register_metrics(self) -> None:
        relay, metrics = self.relay, self.telemetry.metrics
        counter, gauge = metrics.counter, metrics.gauge
        counter("asynq_ttl.commands", "Commands forwarded.", lambda: relay.commands)
        counter("asynq_ttl.connections.accepted", "Client connections accepted.", lambda: relay.accepted)
        counter("asynq_ttl.connections.refused", "Client connections refused.", lambda: relay.refused)
        counter("asynq_ttl.bytes.downstream", "Bytes read from clients.", lambda: relay.bytes_from_clients)
        counter("asynq_ttl.bytes.upstream", "Bytes read from Redis.", lambda: relay.bytes_from_redis)
        gauge("asynq_ttl.connections.open", "Client connections open.", lambda: len(relay.connections))
        gauge("asynq_ttl.upstream.up", "1 if Redis answers.", lambda: int(not self.control.problem))
        sentinels = self.sentinels
        counter("asynq_ttl.upstream.switches", "Changes of the master.", lambda: sentinels.switches if sentinels else 0)
        gauge(
            "asynq_ttl.upstream.sentinels.away",
            "Sentinels that do not help to find the master.",
            lambda: sentinels.away if sentinels else 0,
        )
        gauge("asynq_ttl.paused", "1 while rewriting is paused.", lambda: int(self.paused))
        gauge(
            "asynq_ttl.scripts.wrappers",
            "Wrappers by status.",
            lambda: Counter(script.status.value for script in self.registry.wrapped()),
            ("status",),
        )
        gauge(
            "asynq_ttl.policy.info",
            "1, with the policy in force as labels.",
            lambda: {(self.policy.digest or "built-in", self.policy.mode.value): 1},
            ("digest", "asynq_ttl.mode"),
        )
        gauge(
            "asynq_ttl.policy.refused",
            "1 if the policy file was refused when it was last read.",
            lambda: int(bool(self.last_reload.faults)),
        )
        gauge(
            "asynq_ttl.sweep.behind",
            "1 if the last round of the sweeper left due tasks to the next one.",
            lambda: int(self.sweeper.behind),
        )


async def serve(
    settings: Settings, telemetry: Telemetry, beside: Callable[[Sidecar], AbstractAsyncContextManager[None]]
) -> None:
    """Run a sidecar until SIGTERM or SIGINT.

    Args:
        settings: how it is run.
        telemetry: who is told what it does.
        beside: what runs beside it, from before it listens until after it has drained.

    Raises:
        PolicyError: the policy file is not valid.
        TlsError: a certificate, key or CA file cannot be used.
        OSError: the listening address cannot be used.
    """
    settings = replace(settings, max_connections=_allow_files(settings.max_connections))
    policy = load_policy(settings.policy_file) if settings.policy_file is not None else DEFAULT_POLICY
    sidecar = Sidecar(settings, policy, telemetry)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, sidecar.end)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reload_all)
    # What is there now stays: the collector need not go through it again. And it need not look often, since what comes
    # and goes with commands is freed without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    async with beside(sidecar), sidecar.running() as address:
        _log.info(
            "listening at %s, upstream %s, policy %s, mode %s",
            address,
            settings.upstream,
            policy.source,
            policy.mode.value,
        )
        tell(Notice.READY)
        await sidecar.stop.wait()
        _log.info("draining")
        tell(Notice.STOPPING)
    _log.info("stopped")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: before Python 3.12 `asyncio.wait_for` can swallow a cancellation."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        tasks = list(pending)


def _allow_files(max_connections: int) -> int:
    """Raise the soft limit of open files as far as so many clients need it; return how many clients it allows."""
    needed = 2 * max_connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    allowed = max((soft - _OTHER_FILES) // 2, 1)
    _log.info("at most %d clients instead of %d: the limit of open files is %d", allowed, max_connections, soft)
    return allowed


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
