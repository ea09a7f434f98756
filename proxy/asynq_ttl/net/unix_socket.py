"""A path where a unix socket listens: taken from nobody, and given back only by whoever has it.

Invariants:

* A path is taken where there is nothing, or a socket at which nobody listens. All else is left alone. What a link
  leads to is what counts.
* Of two that take a path at once one gets it: looking, replacing and listening are done under a lock on the folder.
* At the end the path is removed only if it still leads to the very socket that was put there.
"""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_BACKLOG = 1024
# A lock on a folder may be somebody else's, for reasons of their own: it is not waited for any longer.
_LOCK_SECONDS = 1.0
_AGAIN_SECONDS = 0.01


class ListeningPath:
    """A unix socket that listens at a path.

    Args:
        path: the path.
        private: whether it is for its owner alone, from its first moment.

    Raises:
        OSError: the path cannot be used, or somebody listens there.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        path = Path(os.path.realpath(path))
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX)
        """The socket. It is closed by whoever listens with it."""
        try:
            with _alone_in(path.parent):
                _clear(path)
                _bind(self.socket, path, private=private)
                self._identity = _identity(path)
                self.socket.listen(_BACKLOG)
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(0)

    def remove(self) -> None:
        """Remove the path, if it still leads to this socket. To be called before the socket is closed.

        While the socket is open no other file has its number.
        """
        with suppress(OSError), _alone_in(self._path.parent):
            if _identity(self._path) == self._identity:
                self._path.unlink()


def _bind(made: socket.socket, path: Path, *, private: bool) -> None:
    mask = os.umask(0o177) if private else None
    try:
        made.bind(str(path))
    finally:
        if mask is not None:
            os.umask(mask)


def _clear(path: Path) -> None:
    """Remove a socket that was left behind at a path.

    Raises:
        OSError: there is something else.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket, which is left alone")
    if _is_listened_at(path):
        raise OSError(errno.EADDRINUSE, "another process listens there")
    path.unlink(missing_ok=True)


def _is_listened_at(path: Path) -> bool:
    """Say whether anybody listens at a socket; where that cannot be told, somebody does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other sidecars from taking or removing a path in a folder while the block runs, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # not readable, or not there: what comes next says so
        yield
        return
    try:
        _lock(handle)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    while time.monotonic() < deadline:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_AGAIN_SECONDS)
        except OSError:  # a file system without locks
            return
        else:
            return
