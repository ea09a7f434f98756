"""A connection of the tools to one database: it runs our scripts, keeps to a rate, and explains errors in one line.

Invariants:

* Every command is short: what may be large is read in pages of at most `PAGE_TASKS` tasks and about `PAGE_BYTES` bytes.
* Scripts for many queues go out in one round trip, which has no more work in it than a page of one queue: a queue of
  one task costs what it has, not what a page might have.
* All keys of a script belong to one queue, so they share a hash tag and a cluster slot.
* Within `explained`, whatever Redis or the network says becomes one `DatabaseError` that tells a person what to do.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import ConnectionPool, Redis
from redis.connection import parse_url
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,  # noqa: A004 - redis-py's
    NoPermissionError,
    NoScriptError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - redis-py's
)
from redis.sentinel import Sentinel

from asynq_ttl.asynq.keys import PREFIX, QUEUES, ambiguous, queue_of_key, text_of
from asynq_ttl.existing_keys import foreign_prefixes
from asynq_ttl.existing_keys.left_out import LeftOut
from asynq_ttl.existing_keys.needed_rights import ASYNQ_KEYS, READING, Need, attempt
from asynq_ttl.existing_keys.own_connection import connection_class
from asynq_ttl.existing_keys.refused import Refused, probe_key, refused_of
from asynq_ttl.lua.loader import load
from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.net.secret_file import SecretFileError, read_secret
from asynq_ttl.net.server_version import ServerTooOldError, is_unknown

PAGE_TASKS = 50
PAGE_BYTES = 1 << 19
_TIMEOUT_SECONDS = 30.0
_CONNECT_SECONDS = 5.0


Call = tuple[bytes | str | int, ...]
"""Key and arguments of one run of a script."""


class DatabaseError(Exception):
    """The database cannot be used; the message says what is wrong, where, and what to do, in one line."""


class Pace:
    """Slows work down to a rate.

    Args:
        per_second: the most units a second; 0 for no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._free_at = 0.0

    def spend(self, units: int) -> None:
        """Wait until so many more units may be done. Time in which nothing was done is not made up for."""
        if self._per_second <= 0:
            return
        now = time.monotonic()
        if self._free_at > now:
            time.sleep(self._free_at - now)
        self._free_at = max(self._free_at, now) + units / self._per_second


class Database:
    """A connection to one database.

    Args:
        upstream: the server and the number of the database.
        rate: the most keys read in a second; 0 for no limit.

    Raises:
        RedisError: no Sentinel says where the master is.
    """

    def __init__(self, upstream: Upstream, rate: float = 0) -> None:
        self.upstream = upstream
        self.pace = Pace(rate)
        self.client: Redis = _client(upstream, upstream.database)
        self.left_out = LeftOut()
        """What could not be looked at so far, or must be left alone."""
        self._shas: dict[str, str] = {}

    def open(self, *, changing: Need | None = None) -> list[str]:
        """Check that Asynq uses this database and the user has the rights; return the names of its queues, sorted.

        Args:
            changing: the rights that are needed besides, to change tasks; None for none.

        Raises:
            DatabaseError: it is not so.
        """
        with explained(self.upstream):
            if self._is_cluster_node():
                raise DatabaseError(
                    f"{self.upstream} is a node of a cluster: it shows the keys of its own slots alone, so nothing "
                    "that is said or done here would be whole; a cluster is not supported yet"
                )
            queues = self.queues()
            wanted = {*READING.commands, *(changing.commands if changing else ())}
            if not self.upstream.database:
                wanted.discard("SELECT")
            refused = self.refused(sorted(wanted), probe_key(queues))
            if refused:
                raise DatabaseError(f"{self.upstream}: {refused}: {refused.advice(ASYNQ_KEYS)}")
        return queues or []

    def queues(self) -> list[str] | None:
        """Return the names of the queues that Asynq lists, sorted, without those that are left alone.

        Where something else is in the place of the list, they are those that have keys; None where the user may not
        ask.

        Raises:
            DatabaseError: there are none.
        """
        try:
            members: Any = self.client.smembers(QUEUES.decode())
        except ResponseError as error:
            if isinstance(error, NoPermissionError) or is_unknown(error):
                return None
            if "WRONGTYPE" not in str(error):
                raise
            self.left_out.add_wrong(QUEUES)
            found = (queue_of_key(key) for key in self.client.scan_iter(PREFIX + b"*", count=1000))
            members = {queue.encode("utf-8", "surrogateescape") for queue in found if queue is not None}
        names = sorted(text_of(member) for member in members)
        for name in filter(ambiguous, names):
            self.left_out.add_ambiguous(name)
        clear = [name for name in names if not ambiguous(name)]
        if not clear:
            raise DatabaseError("; ".join([self._no_queues(), *self.left_out.notes()]))
        return clear

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return which of some commands cannot be run on a key that does not exist; nothing is changed.

        Each is tried, on a connection that begins without SELECT, since that may be missing too.

        Args:
            commands: their names, as `needed_rights` has them.
            key: the key.
        """
        names, number = list(commands), self.upstream.database
        with _client(self.upstream, 0) as client, client.pipeline(transaction=False) as pipeline:
            for name in ("SELECT", *names):
                pipeline.execute_command(*attempt(name, key, number))
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return refused_of(zip(names, answers[1:], strict=True))

    def now(self) -> int:
        """Return Redis's time in whole seconds since the epoch."""
        seconds, _ = self.client.time()
        return int(seconds)

    def run(self, name: str, key: bytes, *arguments: bytes | str | int) -> Any:  # noqa: ANN401 - replies have any shape
        """Run one of the scripts that read or change tasks.

        Args:
            name: the file below `lua/`, without its ending.
            key: KEYS[1], a key of the queue that is concerned.
            arguments: ARGV.
        """
        if name not in self._shas:
            self._load(name)
        try:
            return self.client.evalsha(self._shas[name], 1, key, *arguments)
        except NoScriptError:
            self._load(name)
            return self.client.evalsha(self._shas[name], 1, key, *arguments)

    def run_all(self, name: str, calls: Sequence[Call]) -> list[Any]:
        """Run one of the scripts several times in one round trip; return what it replies, in that order.

        Args:
            name: as in `run`.
            calls: key and arguments of each, as in `run`.
        """
        if not calls:
            return []
        if name not in self._shas:
            self._load(name)
        pipeline = self.client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._shas[name], 1, *call)
        replies = pipeline.execute(raise_on_error=False)
        for number, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                self._load(name)
                replies[number] = self.client.evalsha(self._shas[name], 1, *calls[number])
            elif isinstance(reply, Exception):
                raise reply
        return replies

    def server(self) -> "Server":
        """Ask the server what it is; where the user may not ask, version and run are empty."""
        info = self.info("server")
        product = "Valkey" if "valkey_version" in info else "Redis"
        return Server(product, info.get(f"{product.lower()}_version", ""), info.get("run_id", ""))

    def info(self, section: str) -> dict[str, Any]:
        """Return a section of INFO; nothing where the user may not ask."""
        try:
            return dict(self.client.info(section))
        except ResponseError:
            return {}

    def size(self) -> int | None:
        """Return how many keys there are; None where the user may not ask."""
        try:
            return int(self.client.dbsize())
        except ResponseError:
            return None

    def memory_usage(self, keys: list[bytes], samples: int) -> list[int | None]:
        """Return how many bytes each key takes; None for one that is not there, or where the user may not ask.

        Args:
            keys: the keys.
            samples: how many elements of each are looked at; 0 for all.
        """
        with self.client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.memory_usage(key, samples=samples)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        return [answer if isinstance(answer, int) else None for answer in answers]

    def close(self) -> None:
        """Close the connection."""
        self.client.close()

    def _is_cluster_node(self) -> bool:
        """Say whether the server is a node of a cluster; a user who may ask it by no way is believed to use none."""
        info = self.info("server")
        if info:
            return bool((info.get("redis_mode") or info.get("server_mode")) == "cluster")
        try:
            self.client.execute_command("CLUSTER INFO")
        except ResponseError:
            return False
        return True

    def _load(self, name: str) -> None:
        self._shas[name] = str(self.client.script_load(load("shared/task.prologue", "shared/hold.prologue", name)))

    def _no_queues(self) -> str:
        """Return, in words, that there is nothing of Asynq here, and in which databases there are keys."""
        keyspace = self.info("keyspace")
        here = f"db{self.upstream.database}"
        others = ", ".join(sorted(name for name in keyspace if name != here))
        hint = f"; there are keys in {others}" if others else ""
        return f"{self.upstream} is no Asynq database: the set asynq:queues is not there{self._of_forks()}{hint}"

    def _of_forks(self) -> str:
        """Return, in words, which prefixes of forks there are; nothing where there are none or the user may not ask."""
        try:
            prefixes = foreign_prefixes.find(self.client, self.pace.spend).seen
        except ResponseError:
            return ""
        told = "; there are tasks of a fork of Asynq whose keys begin with {}, which are not handled"
        return told.format(", ".join(prefixes)) if prefixes else ""


@dataclass(frozen=True, slots=True)
class Server:
    """A server: `Redis` or `Valkey`, its version, and the ID of its run."""

    product: str
    version: str
    run_id: str

    @property
    def name(self) -> str:
        """Product and version."""
        return f"{self.product} {self.version or 'of unknown version'}"


def _options(upstream: Upstream) -> dict[str, Any]:
    """Return the options of every connection; those of TLS only behind Sentinels, else the URL says it."""
    options: dict[str, Any] = {
        "socket_timeout": _TIMEOUT_SECONDS,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "retry": None,
        # HELLO is not needed then: somebody may have renamed it.
        "protocol": 2,
        # It would be told by CLIENT SETINFO, which users need not have.
        "driver_info": None,
    }
    if upstream.sentinels and upstream.tls:
        options |= {
            "ssl_ca_certs": upstream.ca_file or None,
            "ssl_cert_reqs": "required" if upstream.verify else "none",
            "ssl_certfile": upstream.certificate_file or None,
            "ssl_keyfile": upstream.key_file or None,
        }
    return options


def _client(upstream: Upstream, database: int) -> Redis:
    """Return a client of a database of the server, or of the master that its Sentinels name at this moment."""
    options = _options(upstream)
    if upstream.sentinels:
        host, port = _Sentinels(upstream).discover_master(upstream.master)  # type: ignore[no-untyped-call]
        options |= {"username": upstream.username or None, "password": upstream.password or None}
        options |= {"host": host, "port": port}
    else:
        # A password in the URL comes first; this one is that of a password file.
        options |= {"password": upstream.password or None, **parse_url(upstream.url)}
    options |= {"db": database, "connection_class": connection_class(upstream)}
    return Redis.from_pool(ConnectionPool(**options))


def sentinel_clients(upstream: Upstream) -> Iterator[tuple[Address, Redis]]:
    """Yield a client of each Sentinel that the URL names; each is closed when the next one is asked for."""
    for address in upstream.sentinels:
        with _sentinel_client(upstream, address) as client:
            yield address, client


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
