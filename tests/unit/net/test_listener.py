"""Where clients connect: at a port, at a path, at sockets that are there already, and at a port that is shared."""

import asyncio
import socket
import stat
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asynq_ttl.net import listener as listening
from asynq_ttl.net.address import Address
from asynq_ttl.net.listener import Listener, UnixSocket, shared_socket


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
async def listens(address: Address, name: bytes = b"me", *, reuse_port: bool = False) -> AsyncIterator[Listener]:
    """Listen while the block runs."""
    listener = Listener(address, lambda: Greeting(name), None, reuse_port=reuse_port, keepalive_seconds=60)
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


async def test_a_path_that_was_left_behind_is_taken_over(tmp_path: Path) -> None:
    """A sidecar that was killed leaves its socket, which must not keep the next one from starting."""
    address = Address(path=str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(address.path)
    async with listens(address):
        assert await greeting(address) == b"me"


async def test_somebody_else_s_path_stays_theirs(tmp_path: Path) -> None:
    """The second at a path is refused, also while the queue of the first is full, and the first goes on."""
    address = Address(path=str(tmp_path / "socket"))
    async with listens(address):
        with pytest.raises(OSError, match="another process listens there"):
            async with listens(address):
                pytest.fail("it listens twice")
        assert await greeting(address) == b"me"
    busy = tmp_path / "busy"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(str(busy))
        other.listen(0)
        waiting.connect(str(busy))
        with pytest.raises(OSError, match="another process listens there"):
            UnixSocket(busy)


@pytest.mark.parametrize("kind", ["file", "folder", "datagram"])
def test_what_is_no_socket_of_streams_is_not_removed(kind: str, tmp_path: Path) -> None:
    """It is somebody else's, and the error says that the path is in use."""
    path = tmp_path / "there"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram:
        if kind == "file":
            path.write_text("mine")
        elif kind == "folder":
            path.mkdir()
        else:
            datagram.bind(str(path))
        with pytest.raises(OSError, match=r"in use|listens there"):
            UnixSocket(path)
        assert path.exists()


def test_only_its_own_path_is_removed(tmp_path: Path) -> None:
    """Not the one of a successor, and none that is gone already."""
    path = tmp_path / "socket"
    first = UnixSocket(path)
    path.unlink()
    second = UnixSocket(path)
    first.remove()
    assert path.exists()
    second.remove()
    assert not path.exists()
    second.remove()
    first.socket.close()
    second.socket.close()


def test_a_private_socket_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Others may not connect."""
    path = tmp_path / "socket"
    made = UnixSocket(path, private=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made.socket.close()


def test_of_many_that_start_together_one_gets_the_path(tmp_path: Path) -> None:
    """Whether a socket was left behind or not."""
    path = tmp_path / "socket"
    for left in (False, True) * 5:
        path.unlink(missing_ok=True)
        if left:
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))

        def start(_number: int) -> UnixSocket | None:
            try:
                return UnixSocket(path)
            except OSError:
                return None

        with ThreadPoolExecutor(8) as pool:
            made = [each for each in pool.map(start, range(8)) if each is not None]
        assert len(made) == 1
        made[0].socket.close()


@pytest.mark.parametrize("of_path", [False, True])
async def test_an_inherited_socket_goes_before_the_address(
    of_path: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is bound to is where clients connect, whatever was asked for."""
    path = tmp_path / "socket"
    inherited = socket.socket(socket.AF_UNIX if of_path else socket.AF_INET)
    inherited.bind(str(path) if of_path else ("127.0.0.1", 0))
    inherited.listen()
    inherited.setblocking(False)
    monkeypatch.setattr(listening, "inherited_sockets", lambda: [inherited])
    async with listens(Address("127.0.0.1", 1)) as listener:
        expected = Address(path=str(path)) if of_path else Address(*inherited.getsockname())
        assert listener.address == expected
        assert await greeting(listener.address) == b"me"


async def test_the_newer_of_two_has_every_new_connection() -> None:
    """They share the port; once the newer one is gone, the older one has them again."""
    async with listens(Address("127.0.0.1", 0), b"old", reuse_port=True) as old:
        async with listens(old.address, b"new", reuse_port=True):
            assert {await greeting(old.address) for _ in range(20)} == {b"new"}
        assert await greeting(old.address) == b"old"


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
