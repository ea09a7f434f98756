"""The two things that pass between this process and the supervisor that started it, as systemd has them.

It leaves listening sockets for us (`LISTEN_FDS`, as systemd's socket activation and systemfd do), and is told when
clients can come and when no more are taken (`NOTIFY_SOCKET`).

Invariant: a supervisor is never needed. Where none has asked to be told, nothing is sent; where it cannot be told, that
is a warning and the sidecar goes on.
"""

import errno
import logging
import os
import socket
from collections.abc import Callable, Container
from enum import StrEnum

_log = logging.getLogger("asynq_ttl.supervisor")

_FIRST_FD = 3


class Notice(StrEnum):
    """What there is to tell."""

    READY = "READY=1"
    STOPPING = "STOPPING=1"


def inherited_sockets() -> list[socket.socket]:
    """Return the listening sockets that the supervisor has left for this process; the second time there are none.

    Source: sd_listen_fds(3).

    Raises:
        OSError: one of them is no listening socket.
    """
    meant, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not (meant.isdigit() and count.isdigit()) or int(meant) != os.getpid():
        return []
    return [_listening(fd) for fd in range(_FIRST_FD, _FIRST_FD + int(count))]


class Inheritance:
    """The listening sockets that the supervisor has left, for those who listen at different ports.

    Invariant: each goes to one of them, and none is left over.
    """

    def __init__(self) -> None:
        self._left: list[socket.socket] | None = None

    def at(self, ports: Container[int]) -> list[socket.socket]:
        """Return the TCP sockets at some ports; the second time there are none.

        Raises:
            OSError: one of the sockets that were left is no listening socket.
        """
        return self._take(lambda each: each.family != socket.AF_UNIX and each.getsockname()[1] in ports)

    def rest(self) -> list[socket.socket]:
        """Return all others; the second time there are none.

        Raises:
            OSError: as for `at`.
        """
        return self._take(lambda _: True)

    def _take(self, wanted: Callable[[socket.socket], bool]) -> list[socket.socket]:
        left = inherited_sockets() if self._left is None else self._left
        taken = [each for each in left if wanted(each)]
        self._left = [each for each in left if each not in taken]
        return taken


def _listening(fd: int) -> socket.socket:
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        raise _no_listener(fd) from None
    if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.detach()  # it may be somebody else's
        raise _no_listener(fd)
    found.set_inheritable(False)
    found.settimeout(0)
    return found


def _no_listener(fd: int) -> OSError:
    return OSError(errno.ENOTSOCK, f"LISTEN_FDS names file descriptor {fd}, which is no listening socket")


def tell(notice: Notice) -> None:
    """Tell the supervisor, if it has named a socket for that. Source: sd_notify(3).

    Args:
        notice: what to tell.
    """
    name = os.environ.get("NOTIFY_SOCKET", "")
    if not name:
        return
    # A name that begins with "@" is one of Linux's abstract namespace.
    address = f"\0{name[1:]}" if name.startswith("@") else name
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect(address)
            connection.send(notice.encode())
    except OSError as error:
        _log.warning("cannot tell the supervisor %s at %s: %s", notice, name, error)
