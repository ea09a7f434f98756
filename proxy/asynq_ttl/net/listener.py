"""The sockets that clients connect to: bound here, inherited from a supervisor, or shared with another sidecar.

There are two ways to restart without a refused connection:

* A supervisor holds the socket (see `systemd`): clients wait in its queue while no sidecar runs.
* Two sidecars share a port (`SO_REUSEPORT`). The newer one takes all new connections, so that the older one, told to
  end, has none left in its queue when it closes its socket.
"""

import asyncio
import ctypes
import errno
import fcntl
import logging
import os
import socket
import ssl
import stat
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from asynq_ttl.net.address import Address
from asynq_ttl.net.keepalive import keep_alive
from asynq_ttl.net.systemd import inherited_sockets
from asynq_ttl.net.tls import HANDSHAKE_SECONDS

_log = logging.getLogger("asynq_ttl.listener")

_BACKLOG = 1024
_LOCK_TRIES = 20
# Linux: which of the sockets that share a port gets a connection is said by a classic BPF program.
_SO_ATTACH_REUSEPORT_CBPF = 51
_BPF_RET_K = 0x06


class Listener:
    """Where clients connect.

    Args:
        listen: the address, unless sockets are inherited.
        accept: makes the protocol of a connection.
        tls: the context to listen with; None without TLS.
        reuse_port: whether another sidecar may listen at the same port.
        keepalive_seconds: after how much silence clients are asked whether they are still there; 0 for never.
    """

    def __init__(
        self,
        listen: Address,
        accept: Callable[[], asyncio.Protocol],
        tls: ssl.SSLContext | None,
        *,
        reuse_port: bool,
        keepalive_seconds: int,
    ) -> None:
        self.address = listen
        """Where it listens; once started, with the real port."""
        self._accept = accept
        self._reuse_port = reuse_port
        self._keepalive_seconds = keepalive_seconds
        self._options: dict[str, Any] = {"backlog": _BACKLOG}
        if tls is not None:
            self._options |= {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_SECONDS}
        self._servers: list[asyncio.Server] = []
        self._unix: UnixSocket | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        listen, options = self.address, self._options
        if inherited := inherited_sockets():
            for each in inherited:
                keep_alive(each, self._keepalive_seconds)
                create = loop.create_unix_server if each.family == socket.AF_UNIX else loop.create_server
                self._servers.append(await create(self._accept, sock=each, **options))
            self.address = _address_of(inherited[0])
            return
        if listen.path:
            self._unix = await asyncio.to_thread(UnixSocket, Path(listen.path))
            self._servers.append(await loop.create_unix_server(self._accept, sock=self._unix.socket, **options))
            return
        server = await loop.create_server(
            self._accept, listen.host or None, listen.port, reuse_port=self._reuse_port or None, **options
        )
        self._servers.append(server)
        self.address = Address(listen.host, server.sockets[0].getsockname()[1])
        for each in server.sockets:
            keep_alive(each, self._keepalive_seconds)
            if self._reuse_port:
                _take_new_connections(each)

    def close(self) -> None:
        """Listen no more. An inherited socket stays open in the supervisor, whose queue clients wait in."""
        for server in self._servers:
            server.close()
        if self._unix is not None:
            self._unix.remove()


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


class UnixSocket:
    """A listening unix socket at a path. A socket at which nobody listens is replaced; anything else is not ours.

    Of two processes that start at the same path, one gets it: its folder is locked from the look at the path until
    somebody listens there.

    Args:
        path: where.
        private: whether it is for its owner alone, from its first moment.

    Raises:
        OSError: the path cannot be used, or somebody else listens there.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            with _locked(path.parent):
                _remove_stale(path)
                self._bind(private=private)
        except BaseException:
            self.socket.close()
            raise
        self._inode = path.stat().st_ino

    def _bind(self, *, private: bool) -> None:
        mask = os.umask(0o177) if private else None
        try:
            self.socket.bind(str(self._path))
        finally:
            if mask is not None:
                os.umask(mask)
        self.socket.listen(_BACKLOG)

    def remove(self) -> None:
        """Remove the path, if it is still that of this socket."""
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; after a second, or where folders have no locks, go on without."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in range(_LOCK_TRIES):
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(1 / _LOCK_TRIES)
        yield
    finally:
        os.close(handle)


def _remove_stale(path: Path) -> None:
    """Remove a socket that was left behind by a process that was killed.

    Raises:
        OSError: somebody listens there.
    """
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            if _answers(path):
                raise OSError(errno.EADDRINUSE, "another process listens there")
            path.unlink()


def _answers(path: Path) -> bool:
    """Say whether somebody may listen at a socket; one that may not be asked, or is busy, is somebody's."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # where the queue of the other is full, connecting would wait
        return probe.connect_ex(str(path)) != errno.ECONNREFUSED


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
