"""Checks who is connected: which clients of Asynq come from where no sidecar is.

A client is known by what `CLIENT LIST` says about its connection; a sidecar by the names it gives its own.
"""

from collections.abc import Iterator, Sequence

from redis import Redis
from redis.exceptions import ResponseError

from asynq_ttl.existing_keys import own_connection
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity

_SIDECAR_NAMES = ("asynq-ttl", "asynq-ttl-sweeper")
_OWN_NAMES = (*_SIDECAR_NAMES, own_connection.NAME)
_SENTINEL_NAME = "sentinel-"
_MOST_CLIENTS = 2_000
_SHOWN = 5

Client = dict[str, str]
"""One line of `CLIENT LIST`."""


_NAMELESS = Finding(
    "bypass",
    Severity.NOTICE,
    "who is connected past a sidecar cannot be told",
    "sidecars are known by the names of their connections, and the server does not take that of this one",
    "give the user +client|setname, or take the rename-command of CLIENT away",
)


def check(database: Database, connected: int) -> Iterator[Finding]:
    """List the clients and check them.

    Args:
        database: where.
        connected: how many clients there are.
    """
    clients = listed(database.client, connected)
    if isinstance(clients, Finding):
        yield clients
        return
    if not database.upstream.sentinels:
        yield from check_watched(clients)
    yield check_listed(clients)


def listed(client: Redis, connected: int) -> list[Client] | Finding:
    """Return the clients of a server, or why they were not looked at.

    Args:
        client: of that server.
        connected: how many there are. So many that listing them would hold Redis up are not listed.
    """
    if connected > _MOST_CLIENTS:
        what = f"who is connected was not looked at: there are {connected:,} clients"
        why = "listing them would hold Redis up for milliseconds"
        return Finding("bypass", Severity.NOTICE, what, why, "look yourself, at a quiet time: CLIENT LIST")
    try:
        return list(client.client_list())
    except ResponseError as error:
        what, why = "who is connected cannot be looked at", f"the user may not run CLIENT LIST ({error})"
        return Finding("bypass", Severity.NOTICE, what, why, "give it +client|list")


def check_listed(clients: Sequence[Client]) -> Finding:
    """Say whether clients of Asynq bypass the sidecars, if these can be told from them."""
    return check_bypass(clients) if _has_names(clients) else _NAMELESS


def check_watched(clients: Sequence[Client]) -> Iterator[Finding]:
    """Warn where Sentinels are connected, although the URL names none."""
    if any(client.get("name", "").startswith(_SENTINEL_NAME) for client in clients):
        what = "Sentinels watch this server"
        why = "after a failover this address is that of a replica, which takes no writes"
        advice = "give the URL of the Sentinels: redis+sentinel://HOST:PORT/MASTER/DB"
        yield Finding("sentinel", Severity.WARNING, what, why, advice)


def check_bypass(clients: Sequence[Client]) -> Finding:
    """Say whether clients of Asynq connect from hosts from which no sidecar is connected."""
    sidecars = {_host(client) for client in clients if client.get("name") in _SIDECAR_NAMES}
    others = [client for client in clients if client.get("name") not in _OWN_NAMES and _is_asynq(client)]
    past = sorted({_host(client) for client in others if _host(client) not in sidecars})
    if not sidecars:
        what = f"no sidecar is connected, and {len(others)} clients of Asynq are"
        why = "tasks that are archived or completed now get no TTL"
        severity = Severity.WARNING if others else Severity.NOTICE
        advice = (
            "start asynq-ttl serve, and point clients at it; one whose user may not run CLIENT SETNAME is not seen here"
        )
        return Finding("bypass", severity, what, why, advice)
    if past:
        what = "clients of Asynq connect from where no sidecar is"
        why = (
            "what they archive or complete gets no TTL, and what they run again keeps it: it may vanish while it waits"
        )
        advice = "point them at the sidecar; docs/mixed-fleets.md says what holds until then"
        return Finding("bypass", Severity.WARNING, what, why, advice, len(past), past[:_SHOWN])
    what = f"all {len(others)} clients of Asynq come from where a sidecar is: {', '.join(sorted(sidecars))}"
    why = "whether those on the same machine go through it cannot be told from here"
    return Finding("bypass", Severity.FINE, what, why, "")


def _is_asynq(client: Client) -> bool:
    """Say whether a connection looks like one of Asynq: by its last command, or by the library it names."""
    return client.get("cmd") in ("evalsha", "subscribe") or "go-redis" in client.get("lib-name", "")


def _has_names(clients: Sequence[Client]) -> bool:
    """Say whether connections of ours have names: this one has asked for one."""
    return any(client.get("name") in _OWN_NAMES for client in clients)


def _host(client: Client) -> str:
    """Return where a client connects from. That of a unix socket has the socket's path there, and U among its flags."""
    if "U" in client.get("flags", ""):
        return "unix socket"
    return client.get("addr", "").rpartition(":")[0] or "unix socket"
