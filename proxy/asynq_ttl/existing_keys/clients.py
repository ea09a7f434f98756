"""Clients of redis-py for the tools, and what their errors mean, in one line.

Invariant: within `explained`, whatever Redis or the network says becomes one `DatabaseError`, which tells a person what
to do.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis import ConnectionPool, Redis
from redis.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,  # noqa: A004 - redis-py's
    NoPermissionError,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's
)
from redis.sentinel import MasterNotFoundError, Sentinel

from asynq_ttl.existing_keys.own_connection import connection_class
from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.net.secret_file import SecretFileError, read_secret
from asynq_ttl.net.server_version import ServerTooOldError

_TIMEOUT_SECONDS = 30.0
_CONNECT_SECONDS = 5.0


class DatabaseError(Exception):
    """The database cannot be used; the message says what is wrong, where, and what to do, in one line."""


def _options(upstream: Upstream) -> dict[str, Any]:
    """Return the options of every connection; of TLS only where the URL names several servers, else it says it."""
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "retry": None,
        # HELLO is not needed then: somebody may have renamed it.
        "protocol": 2,
        # It would be told by CLIENT SETINFO, which users need not have.
        "driver_info": None,
    }
    if (upstream.sentinels or upstream.nodes) and upstream.tls:
        options |= {
            "ssl_ca_certs": upstream.ca_file or None,
            "ssl_cert_reqs": "required" if upstream.verify else "none",
            "ssl_certfile": upstream.certificate_file or None,
            "ssl_keyfile": upstream.key_file or None,
        }
    return options


def client_of(upstream: Upstream, database: int) -> Redis:
    """Return a client of a database of the server, or of the master that its Sentinels name at this moment."""
    options = _options(upstream)
    if upstream.sentinels:
        host, port = _master_of(upstream)
        options |= {"username": upstream.username or None, "password": upstream.password or None}
        options |= {"host": host, "port": port}
    else:
        # A password in the URL comes first; this one is that of a password file.
        options |= {"password": upstream.password or None, **parse_url(upstream.url)}
    options |= {"db": database, "connection_class": connection_class(upstream)}
    return Redis.from_pool(ConnectionPool(**options))


def node_client(upstream: Upstream, address: Address, seconds: float = _TIMEOUT_SECONDS) -> Redis:
    """Return a client of a node of the cluster that an upstream names; `seconds` is how long a reply may take."""
    options = _options(upstream) | {"username": upstream.username or None, "password": upstream.password or None}
    options |= {"host": address.host, "port": address.port, "connection_class": connection_class(upstream)}
    options["socket_timeout"] = seconds
    return Redis.from_pool(ConnectionPool(**options))


def sentinel_clients(upstream: Upstream) -> Iterator[tuple[Address, Redis]]:
    """Yield a client of each Sentinel that the URL names; each is closed when the next one is asked for."""
    for address in upstream.sentinels:
        with _sentinel_client(upstream, address) as client:
            yield address, client


def _master_of(upstream: Upstream) -> tuple[str, int]:
    """Return where the master is. redis-py's own error would be a dump of its clients."""
    try:
        found: tuple[str, int] = _Sentinels(upstream).discover_master(upstream.master)  # type: ignore[no-untyped-call]
    except MasterNotFoundError:
        said = "; ".join(
            f"{address}: {_no_help(client, upstream.master)}" for address, client in sentinel_clients(upstream)
        )
        raise DatabaseError(f"{upstream}: no Sentinel names the master {upstream.master}: {said}") from None
    return found


def _no_help(client: Redis, master: str) -> str:
    """Return why a Sentinel does not say where the master is."""
    try:
        known: Any = client.sentinel_masters()
    except RedisError as error:
        return _line(error)
    return "it says that it is down" if master in known else "it does not know it"


class _Sentinels(Sentinel):
    """All Sentinels that the URL names."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__([])  # type: ignore[no-untyped-call]
        self.sentinels = [_sentinel_client(upstream, address) for address in upstream.sentinels]


def _sentinel_client(upstream: Upstream, address: Address) -> Redis:
    """Return a client of a Sentinel.

    Its connections begin with a question too. Without one, what TLS 1.3 sends after the handshake may arrive when
    redis-py is about to use the connection, and is taken for a reply that nobody asked for.
    """
    options = {**_options(upstream), **_sentinel_login(upstream), "decode_responses": True}
    place: dict[str, Any] = {"host": address.host, "port": address.port, "connection_class": connection_class(upstream)}
    return Redis.from_pool(ConnectionPool(**options, **place))


def _sentinel_login(upstream: Upstream) -> dict[str, str | None]:
    password = upstream.sentinel_password
    if upstream.sentinel_password_file:
        try:
            password = read_secret(upstream.sentinel_password_file)
        except SecretFileError as error:
            raise DatabaseError(f"the password file {error}") from None
    return {"username": upstream.sentinel_username or None, "password": password or None}


@contextmanager
def explained(upstream: Upstream) -> Iterator[None]:
    """Turn errors of Redis and of the network into one line. Others, such as those of files, are none of redis-py's.

    Raises:
        DatabaseError: in place of any error of redis-py.
    """
    try:
        yield
    except (NoPermissionError, AuthenticationError, AuthorizationError, ConnectionError, TimeoutError) as error:
        raise DatabaseError(_reason(upstream, error)) from error
    except RedisError as error:
        raise DatabaseError(f"{upstream} refuses: {_line(error)}") from error


def _reason(upstream: Upstream, error: RedisError) -> str:
    said = _line(error)
    if isinstance(error, NoPermissionError):
        return f"{upstream}: the user in the URL lacks a right: {said}"
    if isinstance(error, ServerTooOldError):
        return f"{upstream} cannot be used: {said}"
    if isinstance(error, AuthenticationError | AuthorizationError) or "NOAUTH" in said:
        return f"{upstream} does not accept the user and password in the URL: {said}"
    if isinstance(error, TimeoutError):
        return f"{upstream} does not answer: {said}"
    return f"{upstream} cannot be reached: {said}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
