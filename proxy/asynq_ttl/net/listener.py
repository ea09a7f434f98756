"""The sockets that clients connect to: bound here, inherited from a supervisor, or shared with another sidecar.

There are two ways to restart without a refused connection:

* A supervisor holds the socket (see `systemd`): clients wait in its queue while no sidecar runs.
* Two sidecars share a port (`SO_REUSEPORT`). The newer one takes all new connections, so that the older one, told to
  end, has none left in its queue when it closes its socket.

Where one process is not enough, several share a port as peers: each gets its share of the new connections.
"""

import asyncio
import ctypes
import logging
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from asynq_ttl.net.address import Address
from asynq_ttl.net.keepalive import keep_alive
from asynq_ttl.net.tls import HANDSHAKE_SECONDS
from asynq_ttl.net.unix_socket import ListeningPath

_log = logging.getLogger("asynq_ttl.listener")

_BACKLOG = 1024
# Linux: which of the sockets that share a port gets a connection is said by a classic BPF program.
_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RET_K = 0x06


class ListenError(OSError):
    """An address where it is not possible to listen; the message says which and why."""


class Sharing(Enum):
    """Which other sidecars may listen at the same port (`SO_REUSEPORT`)."""

    NOBODY = "nobody"
    SUCCESSOR = "successor"
    """A newer one, which has every new connection from then on."""
    PEERS = "peers"
    """Any number, each with its share of the new connections: the kernel picks one by the client's address and port."""


class Listener:
    """Where clients connect.

    Args:
        listen: the address, unless sockets are inherited.
        accept: makes the protocol of a connection.
        tls: the context to listen with; None without TLS.
        sharing: who else may listen at the same port.
        keepalive_seconds: after how much silence clients are asked whether they are still there; 0 for never.
        inherited: returns the sockets that a supervisor has left for it.
    """

    def __init__(
        self,
        listen: Address,
        accept: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        *,
        sharing: Sharing,
        keepalive_seconds: int,
        inherited: Callable[[], Sequence[socket.socket]],
    ) -> None:
        self._inherited = inherited
        self.address = listen
        """Where it listens; once started, with the real port."""
        self._accept = accept
        self._sharing = sharing
        self._keepalive_seconds = keepalive_seconds
        self._options: dict[str, Any] = {"backlog": _BACKLOG}
        if tls is not None:
            self._options |= {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        self._servers: list[asyncio.Server] = []
        self._path: ListeningPath | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            ListenError: the address, or a socket that the supervisor has left, cannot be used.
        """
        try:
            await self._start()
        except (OSError, UnicodeError) as error:  # UnicodeError: a host that can be no name
            raise cannot_listen(self.address, error) from None

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        listen, options = self.address, self._options
        if inherited := self._inherited():
            for each in inherited:
                keep_alive(each, self._keepalive_seconds)
                create = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
                self._servers.append(await create(self._accept, sock=each, **options))
            self.address = _address_of(inherited[0])
            return
        if listen.path:
            self._path = ListeningPath(Path(listen.path))
            self._servers.append(await loop.create_unix_server(self._accept, sock=self._path.socket, **options))
            return
        reuse = self._sharing is not Sharing.NOBODY or None
        server = await loop.create_server(self._accept, listen.host or None, listen.port, reuse_port=reuse, **options)
        self._servers.append(server)
        self.address = Address(listen.host, server.sockets[0].getsockname()[1])
        for each in server.sockets:
            keep_alive(each, self._keepalive_seconds)
            if self._sharing is Sharing.SUCCESSOR:
                _take_new_connections(each)

    def close(self) -> None:
        """Listen no more. An inherited socket stays open in the supervisor, whose queue clients wait in."""
        if self._path is not None:
            self._path.remove()
            if not self._servers:
                self._path.socket.close()
        for server in self._servers:
            server.close()


def shared_socket(address: Address) -> socket.socket:
    """Return a listening socket that shares its port with an older sidecar's and takes every new connection.

    Raises:
        OSError: the address cannot be used.
    """
    found = socket.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, name = found[0][0], found[0][4]
    made = socket.create_server((str(name[0]), int(name[1])), family=family, reuse_port=True)
    _take_new_connections(made)
    return made


def cannot_listen(address: Address, error: Exception) -> ListenError:
    """Return the error that says where it is not possible to listen, and why."""
    return ListenError(f"cannot listen at {address}: {getattr(error, 'strerror', None) or error}")


def _address_of(inherited: socket.socket) -> Address:
    name = inherited.getsockname()
    return Address(path=str(name)) if inherited.family == socket.AF_UNIX else Address(name[0], name[1])


def _take_new_connections(own: Any) -> None:  # noqa: ANN401 - uvloop's stand-in for a socket
    """Let the second socket that listens at this port have every new connection: this one, if there was one before it.

    Where it is the only one, or the kernel has no such option, nothing changes.
    """
    program = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RET_K, 0, 0, 1))
    with suppress(OSError):
        own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("HP", 1, ctypes.addressof(program)))
