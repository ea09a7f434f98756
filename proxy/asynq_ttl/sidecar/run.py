"""One sidecar as a process: signals, the limit of open files, the garbage collector, and the supervisor that is told.

It belongs to the whole process, so there is one of it; a `Sidecar` knows none of this and can run in a test.
"""

import asyncio
import gc
import logging
import resource
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from asynq_ttl.net.systemd import Notice, tell
from asynq_ttl.policy.rules import DEFAULT_POLICY
from asynq_ttl.policy_file.load import load_policy
from asynq_ttl.sidecar.settings import Settings
from asynq_ttl.sidecar.sidecar import Sidecar, StartError
from asynq_ttl.sidecar.signals import Signals
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.upstream.endpoint import Endpoint

_log = logging.getLogger("asynq_ttl.server")

# Objects that are made before the garbage collector looks at them.
_COLLECT_AFTER = 10_000
# File descriptors besides two for each client: the sidecar's own connections, exporters, the policy watcher.
_OTHER_FILES = 64
# For each port of a cluster's node: it listens, and the sidecar has connections of its own to the node.
_NODE_FILES = 6


async def serve(
    settings: Settings,
    telemetry: Telemetry,
    endpoint: Endpoint,
    beside: Callable[[Sidecar], AbstractAsyncContextManager[None]],
    signals: Signals,
) -> None:
    """Run a sidecar until SIGTERM or SIGINT; one that is still starting is not waited for.

    Args:
        settings: how it is run.
        telemetry: who is told what it does.
        endpoint: where Redis is, as the settings say.
        beside: runs beside the sidecar, from before it listens until after it has drained.
        signals: the process's; the sidecar heeds them.

    Raises:
        PolicyError: the policy file is not valid.
        TlsError: a certificate, key or CA file cannot be used.
        ListenError: the listening address cannot be used.
        StartError: what runs beside it cannot start.
    """
    policy = load_policy(settings.policy_file) if settings.policy_file is not None else DEFAULT_POLICY
    sidecar = Sidecar(settings, policy, telemetry, endpoint)
    _spare_collector()
    try:
        await _serve(sidecar, beside, signals)
    except asyncio.CancelledError:
        if not sidecar.stop.is_set():
            raise
    _log.info("stopped")


async def _serve(
    sidecar: Sidecar, beside: Callable[[Sidecar], AbstractAsyncContextManager[None]], signals: Signals
) -> None:
    """Serve until the sidecar is asked to end. One that is asked before it listens is cancelled."""
    starting = asyncio.current_task()

    def end() -> None:
        if starting is not None and not sidecar.stop.is_set():
            starting.cancel()
        sidecar.end()

    signals.hand_over(end, sidecar.reload_all, sidecar.settings.drain_seconds)
    async with beside(sidecar), sidecar.running() as address:
        starting = None
        settings, policy = sidecar.settings, sidecar.in_force.policy
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


def with_room(settings: Settings) -> Settings:
    """Raise the limit of open files as far as is needed; return settings with as many clients as it allows.

    Raises:
        StartError: it has no room for the sidecar itself.
    """
    nodes = settings.upstream.nodes
    others = _OTHER_FILES + _NODE_FILES * len(settings.cluster_ports or nodes)
    each = 1 + max(len(nodes), 1)  # in front of a cluster a client may have a connection to each node
    return replace(settings, max_connections=_allow_files(settings.max_connections, each, others))


def _spare_collector() -> None:
    """Let the garbage collector do little.

    What is there now stays: it need not be gone through again. And what comes and goes with commands is freed without
    the collector, so it need not look often.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])


def _allow_files(max_connections: int, each: int, others: int) -> int:
    """Raise the soft limit of open files as far as so many clients need it; return how many clients it allows.

    Args:
        max_connections: how many clients there may be.
        each: how many files each of them needs.
        others: how many the sidecar itself needs.
    """
    needed = each * max_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return max_connections
    allowed = (soft - others) // each
    if allowed < 1:
        raise StartError(f"the limit of open files is {soft}, and a sidecar needs {others + each}: raise ulimit -n")
    _log.info("at most %d clients instead of %d: the limit of open files is %d", allowed, max_connections, soft)
    return allowed
