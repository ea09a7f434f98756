"""Checks what a server's INFO says: version, memory, scripts, replication, connections; and its clock. Pure."""

from collections.abc import Iterator
from typing import Any

from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.net.server_version import NEEDED
from asynq_ttl.times import format_duration

Info = dict[str, Any]
"""INFO as redis-py has it: fields and their values."""

_FINE, _WARNING, _DANGER = Severity.FINE, Severity.WARNING, Severity.DANGER
_ASYNQ_NEEDS, _TRIED_SINCE = (4, 0), NEEDED
_MOST_SCRIPTS = 500
# Clocks that differ by less are as good as equal: TTLs are days, and the policy has a grace.
_SKEW_SECONDS = 2.0


def check(info: Info, *, of_cluster: bool = False) -> Iterator[Finding]:
    """Make all checks of INFO; where the server does not tell it, say what was not looked at.

    Args:
        info: what the server says.
        of_cluster: whether it is meant to be a node of a cluster, whose role is checked elsewhere.
    """
    if not info:
        what = "version, memory, scripts, replication and connections of the server were not looked at"
        yield Finding("server", Severity.NOTICE, what, "the server does not answer INFO", "give the user +info")
        return
    yield from check_version(info)
    yield from check_memory(info)
    yield from check_scripts(info)
    if not of_cluster:
        yield from check_topology(info)
    yield from check_loading(info)
    yield from check_connections(info)


def check_version(info: Info) -> Iterator[Finding]:
    """Say whether Asynq runs on this version, and whether asynq-ttl is tried with it."""
    product = "Valkey" if "valkey_version" in info else "Redis"
    version = str(info.get("valkey_version") or info.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    what = f"the server is {product} {version}"
    if not numbers:
        what, why = "the version of the server is not known", "the server does not say it"
        yield Finding("version", Severity.NOTICE, what, why, "it has to be 6.2 or later")
    elif numbers < _ASYNQ_NEEDS:
        yield Finding("version", _DANGER, what, "Asynq needs Redis 4.0 or later", "use a newer server")
    elif numbers < _TRIED_SINCE:
        why = "asynq-ttl is tried with Redis 6.2 and later; users with rights of their own (ACL) came with 6.0"
        yield Finding("version", _WARNING, what, why, "use a newer server")
    else:
        yield Finding("version", _FINE, what, "every Asynq since v0.18 runs on it, and asynq-ttl is tried with it", "")


def check_memory(info: Info) -> Iterator[Finding]:
    """Say what happens to tasks when memory is full, and whether it is nearly full."""
    rule, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    what = f"maxmemory-policy is {rule}, maxmemory is {f'{limit:,} bytes' if limit else 'not set'}"
    if rule.startswith("allkeys"):
        why = "when memory is full Redis throws away any key: waiting tasks and whole queues as well"
        yield Finding("eviction", _DANGER if limit else _WARNING, what, why, "set maxmemory-policy noeviction")
    elif rule.startswith("volatile"):
        why = (
            "when memory is full Redis throws away keys that have a TTL: that is archived and completed tasks now, "
            "before their time, and it leaves ghosts in their indexes; uniqueness locks have a TTL too"
        )
        yield Finding("eviction", _WARNING, what, why, "set maxmemory-policy noeviction, and alert on memory instead")
    else:
        yield Finding("eviction", _FINE, what, "a TTL makes no key a candidate of eviction", "")
    if limit and int(info.get("used_memory", 0)) > limit * 0.9:
        share = int(info["used_memory"]) * 100 // limit
        why = "with noeviction Asynq cannot enqueue once it is full"
        yield Finding(
            "memory-full", _WARNING, f"{share} % of maxmemory are used", why, "see asynq-ttl audit for what to free"
        )


def check_scripts(info: Info) -> Iterator[Finding]:
    """Say whether more scripts are cached than Asynq and asynq-ttl have."""
    count = int(info.get("number_of_cached_scripts", 0))
    what = f"{count:,} scripts are cached"
    if count > _MOST_SCRIPTS:
        why = (
            "Asynq and asynq-ttl together have about 100. Some client sends texts that differ each time; servers since "
            "Redis 7.4 and Valkey 8 then drop the oldest, and clients get NOSCRIPT more often"
        )
        yield Finding("script-cache", _WARNING, what, why, "find the client that puts values into script texts")
    else:
        yield Finding("script-cache", _FINE, what, "wrappers stay loaded until the server restarts", "")


def check_topology(info: Info) -> Iterator[Finding]:
    """Say whether the server is one that Asynq and asynq-ttl can work on: a master that has loaded its data."""
    mode, role = str(info.get("redis_mode") or info.get("server_mode", "standalone")), str(info.get("role", "master"))
    if mode == "cluster":
        why = "at one node's address the sidecar and these tools see the keys of that node alone"
        advice = "give the URL of the cluster: redis+cluster://HOST:PORT,HOST:PORT"
        yield Finding("topology", _DANGER, "the server is a node of a cluster", why, advice)
    elif mode == "sentinel":
        why = "it holds no tasks"
        yield Finding("topology", _DANGER, "the address is that of a Sentinel", why, "give the address of the master")
    elif role != "master":
        why = "it takes no writes, and it may lag behind: nothing can be wrapped, swept or backfilled there"
        advice = f"give the address of its master, {info.get('master_host')}:{info.get('master_port')}"
        yield Finding("topology", _DANGER, "the server is a replica", why, advice)
    else:
        replicas = int(info.get("connected_slaves", 0))
        what = f"the server is a master with {replicas} replicas" if replicas else "the server stands alone"
        yield Finding("topology", _FINE, what, "", "")


def check_loading(info: Info) -> Iterator[Finding]:
    """Warn where the server is loading its data."""
    if int(info.get("loading", 0)):
        yield Finding("loading", _WARNING, "the server is loading its data", "it answers with LOADING", "wait")


def check_connections(info: Info) -> Iterator[Finding]:
    """Warn where nearly as many clients are connected as may be."""
    clients, most = int(info.get("connected_clients", 0)), int(info.get("maxclients", 0))
    if most and clients > most * 0.8:
        what = f"{clients:,} of at most {most:,} clients are connected"
        why = "the sidecar has one connection for each of its clients, and a few of its own"
        yield Finding("maxclients", _WARNING, what, why, "raise maxclients")


def check_clock(skew: float, asked_for: float, grace: int) -> Finding:
    """Say whether the clock of Redis agrees with this machine's.

    Args:
        skew: seconds by which Redis's clock is ahead.
        asked_for: seconds that asking took: the skew is known no better.
        grace: the policy's grace, in seconds.
    """
    what = f"the clocks of Redis and of this machine differ by {abs(skew):.1f} s"
    if abs(skew) <= max(_SKEW_SECONDS, asked_for):
        return Finding("clock", _FINE, what, "", "")
    why = (
        "death and expiry times in the indexes are the workers', TTLs are Redis's: tasks are removed that much too "
        f"early or late. The grace of {format_duration(grace)} bridges as much"
    )
    severity = _DANGER if abs(skew) > grace else _WARNING
    return Finding("clock", severity, what, why, "run NTP on both; is this machine's clock that of the workers?")
