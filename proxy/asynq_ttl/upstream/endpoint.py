"""Where Redis is at the moment, and how a connection to it begins: TLS, and the sidecar's own login.

Invariants:

* A connection given to a client is at the beginning of its conversation: what the login said and was told is gone.
* A connection leads to where Redis is at the moment it is given, not to where it was when the connection was begun.
* Credentials appear in no message: neither in an error nor in what a connection is called.
* Who is cancelled in the use of one of the sidecar's own connections is cancelled, whatever redis-py makes of it.
* What is only nice to have never ends a connection: its name, and asking for the version.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast
from weakref import WeakSet

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.credentials import CredentialProvider
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import ResponseError

from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.net.keepalive import DEFAULT_SECONDS, keep_alive
from asynq_ttl.net.secret_file import SecretFileError, read_secret
from asynq_ttl.net.server_version import is_unknown, refuse_old
from asynq_ttl.net.tls import Context, upstream_context
from asynq_ttl.wire.commands import encode

CONNECT_SECONDS = 5.0
# Behind Sentinels: how long one attempt may take, and the pause until the next.
_ATTEMPT_SECONDS = 1.5
_AGAIN_SECONDS = 0.05
# No answer to a login is longer.
_MAX_ANSWER_BYTES = 4096


class LoginError(OSError):
    """Redis does not take the sidecar's credentials, or they cannot be read."""


P = TypeVar("P", bound=asyncio.Protocol)


class Endpoint:
    """The Redis behind the sidecar.

    Args:
        upstream: what the operator said.
        logs_in: whether clients' connections are logged in with the sidecar's credentials.
        keepalive_seconds: after how much silence Redis is asked whether it is still there; 0 for never.
        tls: the TLS context of another endpoint, to share it; None for one of its own, if the upstream speaks TLS.

    Raises:
        TlsError: a certificate, key or CA file cannot be used.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        logs_in: bool = False,
        keepalive_seconds: int = DEFAULT_SECONDS,
        tls: Context | None = None,
    ) -> None:
        self.upstream = upstream
        self.address: Address | None = None if upstream.sentinels else upstream.address
        """Where it is; None while that is not known."""
        self.tls: Context | None = tls or upstream_context(upstream)
        self.unknown = f"no Sentinel has said yet where {upstream.master} is"
        """Why it is not known where Redis is, while it is not."""
        self._logs_in = logs_in and _has_credentials(upstream)
        self._keepalive_seconds = keepalive_seconds
        self._free = asyncio.Event()
        self._free.set()
        self._clients: WeakSet[Redis] = WeakSet()

    def __str__(self) -> str:
        return str(self.upstream)

    @property
    def place(self) -> Address:
        """Where it is; while that is not known, the first one that is asked for it."""
        return self.address or self.upstream.address

    def at(self, upstream: Upstream) -> "Endpoint":
        """Return the endpoint of another server, to which connections begin in the same way."""
        return Endpoint(upstream, logs_in=self._logs_in, keepalive_seconds=self._keepalive_seconds, tls=self.tls)

    def refuse(self, why: str) -> None:
        """Take note of why it is not known where Redis is, for clients that ask while it is not."""
        self.unknown = why

    async def open(self, factory: Callable[[], P]) -> P:
        """Open a connection for a client and hand it to a protocol.

        Behind Sentinels a master that is down is waited for, so that clients need not notice a failover that is quick.

        Raises:
            OSError: Redis cannot be reached, or does not take the sidecar's credentials.
            TimeoutError: it does not answer in time.
        """
        refusal: OSError | None = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                while True:
                    await self._free.wait()
                    address = self.address
                    try:
                        transport, protocol = await self._begin(factory)
                        break
                    except OSError as error:
                        # Behind Sentinels there will be another master in a moment.
                        if address is None or not self.upstream.sentinels or isinstance(error, LoginError):
                            raise
                        refusal = error
                    await asyncio.sleep(_AGAIN_SECONDS)
        except TimeoutError:
            if self.held:
                raise OSError("the Sentinels are changing the master") from None
            raise refusal or TimeoutError from None
        if address != self.address or self.held:
            transport.abort()
            raise OSError(f"{self} has moved")
        return protocol

    async def _begin(self, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        """Connect, and log in where that is asked for. Behind Sentinels no attempt takes long."""
        async with asyncio.timeout(_ATTEMPT_SECONDS if self.upstream.sentinels else None):
            return await (self._log_in(factory) if self._logs_in else self._connect(factory))

    def credentials(self) -> tuple[bytes, bytes]:
        """Return a user name and a password that Redis takes; any password, where it asks for none.

        Raises:
            LoginError: the password file cannot be read.
        """
        username, password = _credentials(self.upstream)
        return (username or "default").encode(), (password or "none").encode()

    def redis(self, database: int | None = None, **options: Any) -> Redis:  # noqa: ANN401 - redis-py's own options
        """Return a client of the sidecar's own, logged in and at the right server even after it has moved.

        Args:
            database: the number of the database; None for that of the URL.
            options: those of a redis-py connection pool.
        """
        pool = BlockingConnectionPool(
            connection_class=_OwnConnection,
            endpoint=self,
            db=self.upstream.database if database is None else database,
            credential_provider=_Credentials(self.upstream) if _has_credentials(self.upstream) else None,
            retry=None,
            # HELLO is not needed then: somebody may have renamed it.
            protocol=2,
            # It would be told by CLIENT SETINFO, which users need not have.
            driver_info=None,
            **{"client_name": "asynq-ttl", **options},
        )
        client = Redis.from_pool(pool)
        self._clients.add(client)
        return client

    def hold(self) -> None:
        """Let clients that connect wait, until `release`: Redis is about to be elsewhere."""
        self._free.clear()

    def release(self) -> None:
        """Let those that wait go on."""
        self._free.set()

    @property
    def held(self) -> bool:
        """Whether clients that connect wait."""
        return not self._free.is_set()

    async def moved(self, address: Address) -> None:
        """Take note of where Redis is now; the sidecar's own connections begin anew there."""
        self.address = address
        for client in list(self._clients):
            await client.connection_pool.disconnect(inuse_connections=True)

    def arguments(self) -> dict[str, Any]:
        """Return what asyncio needs to connect.

        Raises:
            OSError: it is not known where to.
        """
        address = self.address
        if address is None:
            raise OSError(self.unknown)
        if address.path:
            return {"path": address.path}
        found: dict[str, Any] = {"host": address.host, "port": address.port}
        if self.tls is not None:
            found |= {"ssl": self.tls.current, "server_hostname": self.upstream.server_name or address.host}
        return found

    async def _log_in(self, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        command = _auth(self.upstream)
        transport, login = await self._connect(lambda: _Login(command))
        try:
            await login.done
        except BaseException:
            transport.abort()
            raise
        protocol = factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        return transport, protocol

    async def _connect(self, factory: Callable[[], P]) -> tuple[asyncio.Transport, P]:
        loop = asyncio.get_running_loop()
        arguments = self.arguments()
        try:
            if "path" in arguments:
                return await loop.create_unix_connection(factory, arguments["path"])
            transport, protocol = await loop.create_connection(factory, **arguments)
        except ssl.SSLError as error:
            raise OSError(f"TLS: {getattr(error, 'verify_message', '') or error.reason or error}") from None
        keep_alive(transport.get_extra_info("socket"), self._keepalive_seconds)
        return transport, protocol


class _OwnConnection(AbstractConnection):
    """A connection of redis-py to wherever the endpoint is. Where it may not have a name it goes on without."""

    def __init__(self, *, endpoint: Endpoint, client_name: str, **options: Any) -> None:  # noqa: ANN401 - redis-py's own options
        self._endpoint = endpoint
        self._called = client_name
        super().__init__(**options)

    async def send_packed_command(
        self,
        command: bytes | str | Iterable[bytes],
        check_health: bool = True,  # noqa: FBT001, FBT002 - redis-py's signature
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:  # as uvloop raises it where the connection was closed meanwhile
            raise LostConnectionError(f"{self._endpoint} has hung up") from error
        # Before Python 3.12 `asyncio.wait_for`, by which redis-py sends, swallows a cancellation once all is sent.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            await self.disconnect(nowait=True)
            raise asyncio.CancelledError

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        await super().on_connect_check_health(check_health)
        try:
            await self._ask("HELLO")
        except ResponseError as error:
            if is_unknown(error):
                await self._refuse_old()
        try:
            await self._ask("CLIENT", "SETNAME", self._called)
        except ResponseError:
            return  # nobody needs it

    async def _refuse_old(self) -> None:
        try:
            info = await self._ask("INFO", "server")
        except ResponseError:
            return  # it cannot be known
        refuse_old(info)

    async def _ask(self, *words: str) -> Any:  # noqa: ANN401 - replies have any shape
        await self.send_command(*words, check_health=False)
        return await self.read_response()

    def repr_pieces(self) -> list[tuple[str, str | int]]:
        return [("upstream", str(self._endpoint)), ("db", self.db)]

    async def _connect(self) -> None:
        address = self._endpoint.address
        arguments: Mapping[str, Any] = self._endpoint.arguments()
        async with asyncio.timeout(self.socket_connect_timeout):
            if "path" in arguments:
                self._reader, self._writer = await asyncio.open_unix_connection(**arguments)
            else:
                self._reader, self._writer = await asyncio.open_connection(**arguments)
        if address != self._endpoint.address:
            self._writer.close()
            self._reader = self._writer = None
            raise OSError(f"{self._endpoint} has moved")

    def _host_error(self) -> str:
        return str(self._endpoint)


class _Login(asyncio.Protocol):
    """Says one command on a fresh connection and waits for its answer."""

    def __init__(self, command: bytes) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._command = command
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._command)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self.done.done() or (b"\n" not in data and len(self._answer) < _MAX_ANSWER_BYTES):
            return
        if self._answer == b"+OK\r\n":
            self.done.set_result(None)
        else:
            text = self._answer[:_MAX_ANSWER_BYTES].decode(errors="replace").strip().removeprefix("-")
            self.done.set_exception(LoginError(f"the sidecar's own login failed: {text}"))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why does not matter
        if not self.done.done():
            self.done.set_exception(LoginError("Redis hung up during the sidecar's own login"))


class _Credentials(CredentialProvider):
    """The sidecar's credentials for redis-py, read anew for each connection."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        username, password = _credentials(self._upstream)
        return (username, password) if username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


def _has_credentials(upstream: Upstream) -> bool:
    return bool(upstream.username or upstream.password or upstream.password_file)


def _credentials(upstream: Upstream) -> tuple[str, str]:
    """Return user name and password; a file is read at this moment, so that it can be replaced.

    Raises:
        LoginError: the file cannot be read.
    """
    if not upstream.password_file:
        return upstream.username, upstream.password
    try:
        return upstream.username, read_secret(upstream.password_file)
    except SecretFileError as error:
        raise LoginError(f"the password file {error}") from None


def _auth(upstream: Upstream) -> bytes:
    username, password = _credentials(upstream)
    words = ("AUTH", username, password) if username else ("AUTH", password)
    return encode([word.encode() for word in words])
