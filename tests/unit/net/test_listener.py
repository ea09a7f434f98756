"""Where clients connect: at a port, at a path, at sockets that are there already, and at a port that is shared."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Listener, ListenError, Sharing, shared_socket


class Greeting(asyncio.Protocol):
    """Says its name to whoever connects, and hangs up."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say it."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._name)
        transport.close()


@asynccontextmanager
async def listens(
    address: Address, name: bytes = b"me", *inherited: socket.socket, sharing: Sharing = Sharing.NOBODY
) -> AsyncIterator[Listener]:
    """Listen while the block runs."""
    listener = Listener(
        address, lambda: Greeting(name), None, sharing=sharing, keepalive_seconds=60, inherited=lambda: inherited
    )
    await listener.start()
    try:
        yield listener
    finally:
        listener.close()


async def greeting(address: Address) -> bytes:
    """Connect, and return what is said."""
    connect = (
        asyncio.open_unix_connection(address.path)
        if address.path
        else asyncio.open_connection(address.host, address.port)
    )
    reader, writer = await connect
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


async def test_a_port_of_the_kernels_choice_is_known_once_it_listens() -> None:
    """Port 0 becomes the real one; closed, it refuses."""
    async with listens(Address("127.0.0.1", 0)) as listener:
        assert listener.address.port > 0
        assert await greeting(listener.address) == b"me"
    with pytest.raises(ConnectionRefusedError):
        await greeting(listener.address)


async def test_a_path_is_removed_at_the_end(tmp_path: Path) -> None:
    """So that clients see at once that nobody is there."""
    address = Address(path=str(tmp_path / "socket"))
    async with listens(address):
        assert await greeting(address) == b"me"
    assert not (tmp_path / "socket").exists()


async def test_a_path_where_somebody_listens_is_not_taken(tmp_path: Path) -> None:
    """The first goes on, whatever becomes of the second."""
    address = Address(path=str(tmp_path / "socket"))
    async with listens(address, b"first"):
        with pytest.raises(ListenError, match=r"cannot listen at unix:.*another process listens there"):
            async with listens(address, b"second"):
                pytest.fail("it listens twice")
        assert await greeting(address) == b"first"


async def test_what_has_not_begun_can_be_closed(tmp_path: Path) -> None:
    """As where the start fails."""
    listener = Listener(
        Address(path=str(tmp_path / "a" / "b")),
        lambda: Greeting(b"me"),
        None,
        sharing=Sharing.NOBODY,
        keepalive_seconds=0,
        inherited=list,
    )
    listener.close()
    with pytest.raises(ListenError, match="No such file"):
        await listener.start()
    listener.close()


@pytest.mark.parametrize("host", ["a..b", "x" * 70])
async def test_a_host_that_can_be_no_name_is_told(host: str) -> None:
    """As any other that is not there."""
    with pytest.raises(ListenError, match=f"cannot listen at {host}:1: "):
        async with listens(Address(host, 1)):
            pytest.fail("it listens")


@pytest.mark.parametrize("of_path", [False, True])
async def test_an_inherited_socket_goes_before_the_address(of_path: bool, tmp_path: Path) -> None:
    """What it is bound to is where clients connect, whatever was asked for."""
    path = tmp_path / "socket"
    inherited = socket.socket(socket.AF_UNIX if of_path else socket.AF_INET)
    inherited.bind(str(path) if of_path else ("127.0.0.1", 0))
    inherited.listen()
    inherited.setblocking(False)
    async with listens(Address("127.0.0.1", 1), b"me", inherited) as listener:
        expected = Address(path=str(path)) if of_path else Address(*inherited.getsockname())
        assert listener.address == expected
        assert await greeting(listener.address) == b"me"


async def test_the_newer_of_two_has_every_new_connection() -> None:
    """They share the port; once the newer one is gone, the older one has them again."""
    async with listens(Address("127.0.0.1", 0), b"old", sharing=Sharing.SUCCESSOR) as old:
        async with listens(old.address, b"new", sharing=Sharing.SUCCESSOR):
            assert {await greeting(old.address) for _ in range(20)} == {b"new"}
        assert await greeting(old.address) == b"old"


async def test_peers_share_the_new_connections() -> None:
    """The kernel picks one for each; the newer does not have them all."""
    async with listens(Address("127.0.0.1", 0), b"one", sharing=Sharing.PEERS) as one:
        async with listens(one.address, b"other", sharing=Sharing.PEERS):
            assert {await greeting(one.address) for _ in range(50)} == {b"one", b"other"}
        assert await greeting(one.address) == b"one"


async def test_a_shared_socket_is_the_newer_one() -> None:
    """The admin server's: it takes every new connection from an older sidecar's."""
    with shared_socket(Address("127.0.0.1", 0)) as old:
        address = Address(*old.getsockname())
        with shared_socket(address) as new:
            for each in (old, new):
                each.settimeout(5)
            with socket.create_connection((address.host, address.port)), new.accept()[0]:
                pass


async def test_without_sharing_a_port_has_one_listener() -> None:
    """The second one is told so."""
    async with listens(Address("127.0.0.1", 0)) as first:
        with pytest.raises(OSError, match="in use"):
            async with listens(first.address):
                pytest.fail("it listens twice")
