"""The running sidecar: listener, relay, control connection, policy reloads, signals, drain."""

import asyncio
import logging
import resource
import signal
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import Change, awatch

from asynq_ttl.address import Address, Upstream
from asynq_ttl.config import load_policy
from asynq_ttl.document import PolicyError
from asynq_ttl.policy import DEFAULT_POLICY, Policy
from asynq_ttl.relay import Relay
from asynq_ttl.resp import WholeCommands
from asynq_ttl.rewrite import Rewriter
from asynq_ttl.scripts import ScriptRegistry
from asynq_ttl.session import Shared
from asynq_ttl.sweeper import Sweeper
from asynq_ttl.telemetry import Telemetry
from asynq_ttl.upstream import ControlConnection

_log = logging.getLogger("asynq_ttl.server")

_BACKLOG = 1024
_CANCEL_SECONDS = 0.2
# File descriptors besides two for each client: the sidecar's own connections, exporters, the policy watcher.
_OTHER_FILES = 64


@dataclass(frozen=True, slots=True)
class Settings:
    """How a sidecar is run.

    Attributes:
        listen: where clients connect.
        upstream: the Redis behind it.
        policy_file: the policy; None for the built-in default.
        max_connections: more clients than this are refused.
        drain_seconds: how long commands under way are waited for when it stops.
        sweep_seconds: the time between two rounds of the sweeper; 0 for no sweeper.
    """

    listen: Address
    upstream: Upstream
    policy_file: Path | None = None
    max_connections: int = 10_000
    drain_seconds: float = 10.0
    sweep_seconds: float = 5.0


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
        self._healed: set[str] = set()
        self.shared = Shared(
            registry=self.registry,
            rewriter=Rewriter(policy, self._healed),
            observer=telemetry,
            clock=time.time_ns,
            whole=WholeCommands(),
            databases={0, settings.upstream.database},
        )
        self.control = ControlConnection(settings.upstream, self.registry, telemetry.unwrapped)
        self.sweeper = Sweeper(
            settings.upstream,
            lambda: self.shared.rewriter,
            self.shared.databases,
            telemetry,
            interval_seconds=settings.sweep_seconds,
        )
        self.relay = Relay(self.shared, settings.upstream, self.control, max_connections=settings.max_connections)
        self._register_metrics()

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self.shared.rewriter.policy

    def reload(self) -> bool:
        """Read the policy file again; on any fault keep the policy in force and say why. Returns success."""
        path = self.settings.policy_file
        if path is None:
            _log.warning("there is no policy file to reload: the built-in default is in force")
            return False
        try:
            policy = load_policy(path)
        except PolicyError as error:
            self.telemetry.reloads["error"] += 1
            for fault in error.faults:
                _log.error("policy not reloaded, the old one stays in force: %s", fault)
            return False
        self.telemetry.reloads["ok"] += 1
        self.shared.rewriter = Rewriter(policy, self._healed)
        _log.info("policy %s (%s) is in force, mode %s", policy.source, policy.digest, policy.mode.value)
        return True

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Address]:
        """Serve while the block runs, then drain. Yields the address it listens at (the port is a real one)."""
        loop = asyncio.get_running_loop()
        self.telemetry.start_metrics()
        background = [loop.create_task(self.control.run())]
        if self.settings.policy_file is not None:
            background.append(loop.create_task(self._watch(self.settings.policy_file)))
        if self.settings.sweep_seconds > 0:
            background.append(loop.create_task(self.sweeper.run()))
        server = await self._listen()
        try:
            yield self._address(server)
        finally:
            server.close()
            await self.relay.drain(self.settings.drain_seconds)
            await _end(background)
            await self.sweeper.close()
            await self.control.close()
            await asyncio.to_thread(self.telemetry.shutdown)

    async def _listen(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        listen = self.settings.listen
        if not listen.path:
            return await loop.create_server(self.relay.accept, listen.host or None, listen.port, backlog=_BACKLOG)
        await asyncio.to_thread(_remove_stale_socket, Path(listen.path))
        return await loop.create_unix_server(self.relay.accept, listen.path, backlog=_BACKLOG)

    def _address(self, server: asyncio.Server) -> Address:
        listen = self.settings.listen
        return listen if listen.path else Address(listen.host, server.sockets[0].getsockname()[1])

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
        relay, observe = self.relay, self.telemetry.observe
        observe("asynq_ttl.commands", "Commands forwarded.", lambda: relay.commands)
        observe("asynq_ttl.connections.accepted", "Client connections accepted.", lambda: relay.accepted)
        observe("asynq_ttl.connections.refused", "Client connections refused.", lambda: relay.refused)
        observe("asynq_ttl.bytes.downstream", "Bytes read from clients.", lambda: relay.bytes_from_clients)
        observe("asynq_ttl.bytes.upstream", "Bytes read from Redis.", lambda: relay.bytes_from_redis)


async def serve(settings: Settings) -> None:
    """Run a sidecar until SIGTERM or SIGINT.

    Raises:
        PolicyError: the policy file is not valid.
        OSError: the listening address cannot be used.
    """
    settings = replace(settings, max_connections=_allow_files(settings.max_connections))
    policy = load_policy(settings.policy_file) if settings.policy_file is not None else DEFAULT_POLICY
    sidecar = Sidecar(settings, policy, Telemetry(settings.upstream))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, sidecar.reload)
    async with sidecar.running() as address:
        _log.info(
            "listening at %s, upstream %s, policy %s, mode %s",
            address,
            settings.upstream,
            policy.source,
            policy.mode.value,
        )
        await stop.wait()
        _log.info("draining")
    _log.info("stopped")


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: before Python 3.12 `asyncio.wait_for` can swallow a cancellation."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, pending = await asyncio.wait(tasks, timeout=_CANCEL_SECONDS)
        tasks = list(pending)


def _remove_stale_socket(path: Path) -> None:
    """Remove a socket that a sidecar left behind when it was killed; anything else is not ours to remove."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


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
