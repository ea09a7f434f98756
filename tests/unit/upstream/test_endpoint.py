"""How a connection to Redis begins: the sidecar's own login, against a server of a few lines."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as LostConnection

from asynq_ttl.net.address import Address, Upstream, parse_upstream
from asynq_ttl.net.server_version import ServerTooOldError
from asynq_ttl.upstream.endpoint import Endpoint, LoginError
from support.old_redis import NO_SUCH_COMMAND, REDIS_5, speaking
from support.waiting import until


class Received(asyncio.Protocol):
    """A client's upstream connection: remembers what it is given."""

    def __init__(self) -> None:
        self.data = b""
        self.made = 0
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self.transport = transport
        self.made += 1

    def data_received(self, data: bytes) -> None:
        """Remember the bytes."""
        self.data += data


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[Callable[[str], Upstream], list[bytes]]]:
    """Run a server that gives one answer to all; yield what makes an upstream of credentials, and what was said."""
    said: list[bytes] = []
    talks = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        said.append(await reader.read(1000))
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield lambda credentials: parse_upstream(f"redis://{credentials}127.0.0.1:{port}/0"), said
        await asyncio.sleep(0.02)
        await asyncio.gather(*(task for task in talks if task is not None))


@pytest.mark.parametrize(
    ("credentials", "command"),
    [
        (":p%40ss@", b"*2\r\n$4\r\nAUTH\r\n$4\r\np@ss\r\n"),
        ("me:pass@", b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\npass\r\n"),
    ],
)
async def test_a_login_leaves_no_trace_on_the_connection(credentials: str, command: bytes) -> None:
    """The client's protocol gets a connection on which nothing has been said yet."""
    async with answering(b"+OK\r\n") as (upstream, said):
        protocol = await Endpoint(upstream(credentials), logs_in=True).open(Received)
        assert said == [command]
        assert (protocol.made, protocol.data) == (1, b"")
        assert protocol.transport is not None
        protocol.transport.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(b"-WRONGPASS no\r\n", "own login failed: WRONGPASS no"), (b"", "hung up"), (b"?" * 5000, "own login failed")],
)
async def test_a_login_that_fails_says_why(answer: bytes, reason: str) -> None:
    """The reason is Redis's own, and holds no password."""
    async with answering(answer) as (upstream, _):
        with pytest.raises(LoginError, match=reason) as failed:
            await Endpoint(upstream("me:secret@"), logs_in=True).open(Received)
        assert "secret" not in str(failed.value)


async def test_without_credentials_nothing_is_said() -> None:
    """A Redis without a password needs no login."""
    async with answering(b"+OK\r\n") as (upstream, said):
        protocol = await Endpoint(upstream(""), logs_in=True).open(Received)
        assert said == []
        assert protocol.transport is not None
        protocol.transport.close()


async def test_a_password_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The message has its path."""
    async with answering(b"+OK\r\n") as (upstream, _):
        missing = replace(upstream("me@"), password_file=str(tmp_path / "absent"))
        with pytest.raises(LoginError, match="absent: No such file"):
            await Endpoint(missing, logs_in=True).open(Received)


async def test_without_a_master_nobody_is_connected() -> None:
    """Behind Sentinels the address is unknown until one has been asked; then connections go there."""
    endpoint = Endpoint(parse_upstream("redis+sentinel://127.0.0.1:1/mymaster"))
    with pytest.raises(OSError, match="no Sentinel has said yet where mymaster is"):
        await endpoint.open(Received)
    await endpoint.moved(Address("127.0.0.1", 7))
    assert endpoint.arguments() == {"host": "127.0.0.1", "port": 7}


async def test_who_connects_while_the_master_moves_is_refused() -> None:
    """The connection that was being opened leads to the old master: it ends, and nobody is given it."""
    async with answering(b"") as (upstream, said):
        endpoint = Endpoint(upstream(""))
        opened: list[Received] = []

        def moved_meanwhile() -> Received:
            endpoint.hold()
            opened.append(Received())
            return opened[0]

        with pytest.raises(OSError, match="has moved"):
            await endpoint.open(moved_meanwhile)
        assert isinstance(opened[0].transport, asyncio.Transport)
        assert opened[0].transport.is_closing()
        await until(lambda: said == [b""])


def test_credentials_are_in_no_representation() -> None:
    """Neither an upstream nor an endpoint shows a password."""
    upstream = parse_upstream("redis+sentinel://me:hush@h:1,h:2/m?sentinel_password=hush2")
    assert "hush" not in str(upstream) + str(Endpoint(upstream))
    assert "password=" not in repr(upstream).replace("password_file=", "")


@pytest.mark.parametrize(
    "refusals",
    [
        {"CLIENT": b"-NOPERM this user has no permissions to run the 'client' command\r\n"},
        {"CLIENT": NO_SUCH_COMMAND, "HELLO": NO_SUCH_COMMAND, "INFO": NO_SUCH_COMMAND},
    ],
)
async def test_what_is_only_nice_to_have_is_done_without(refusals: dict[str, bytes]) -> None:
    """A connection of the sidecar's own needs no name, and the version need not be known."""
    with speaking(refusals) as (port, said):
        client = Endpoint(parse_upstream(f"redis://127.0.0.1:{port}/0")).redis(client_name="asynq-ttl-sweeper")
        assert await client.ping()
        await client.aclose()
    assert "CLIENT SETNAME asynq-ttl-sweeper" in said


async def test_a_cancellation_is_heeded_when_the_command_has_just_been_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """By then `asyncio.wait_for`, in redis-py, swallows it: what is stopped would go on, and find Redis gone."""
    sent = AbstractConnection._send_packed_command

    async def send_and_cancel(connection: AbstractConnection, command: Iterable[bytes]) -> None:
        await sent(connection, command)
        assert asking is not None
        asking.cancel()

    async def ask(client: Redis) -> None:
        await client.ping()

    asking: asyncio.Task[None] | None = None
    with speaking({}) as (port, _):
        client = Endpoint(parse_upstream(f"redis://127.0.0.1:{port}/0")).redis(socket_timeout=60)
        await client.ping()
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", send_and_cancel)
        asking = asyncio.create_task(ask(client))
        with pytest.raises(asyncio.CancelledError):
            await asking
        monkeypatch.undo()
        assert await client.ping()
        await client.aclose()


async def test_a_connection_that_uvloop_finds_closed_is_one_that_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks is told what it expects where Redis is away, not that something is wrong with the sidecar."""

    async def find_closed(_connection: AbstractConnection, _command: Iterable[bytes]) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    with speaking({}) as (port, _):
        client = Endpoint(parse_upstream(f"redis://127.0.0.1:{port}/0")).redis(socket_timeout=60)
        await client.ping()
        monkeypatch.setattr(AbstractConnection, "_send_packed_command", find_closed)
        with pytest.raises(LostConnection, match="has hung up"):
            await client.ping()
        monkeypatch.undo()
        assert await client.ping()
        await client.aclose()


async def test_a_server_that_is_too_old_is_refused() -> None:
    """It says so itself."""
    with speaking(REDIS_5) as (port, _):
        client = Endpoint(parse_upstream(f"redis://127.0.0.1:{port}/0")).redis()
        with pytest.raises(ServerTooOldError, match=r"asynq-ttl needs Redis 6\.2"):
            await client.ping()
        await client.aclose()


def test_each_node_of_a_cluster_is_reached_in_the_same_way() -> None:
    """With the same credentials, and one TLS context for all."""
    endpoint = Endpoint(parse_upstream("rediss+cluster://:secret@h:1,h:2?ssl_cert_reqs=none"), logs_in=True)
    node = endpoint.at(replace(endpoint.upstream, address=Address("10.0.0.1", 7000), nodes=()))
    assert (str(node), node.address) == ("rediss://10.0.0.1:7000/0", Address("10.0.0.1", 7000))
    assert node.tls is endpoint.tls is not None
    assert node.credentials() == (b"default", b"secret")
