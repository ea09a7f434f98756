"""Files that an operator names, read and written with a limit: they may be pipes, devices, or anything else.

Invariants:

* Reading ends. A pipe that nobody writes to is given up after `NOBODY_SECONDS`, one whose writer is silent after
  `SILENT_SECONDS`, a device after the former; no more is read than was asked for.
* `/dev/stdin` and a shell's `<(command)`, which are pipes with a writer, are read to their end; so is what a writer has
  left behind.
* Whatever is wrong is an OSError whose `strerror` says it in words.
"""

import errno
import os
import select
import stat
import time
from pathlib import Path

NOBODY_SECONDS = 0.8
SILENT_SECONDS = 10.0
_LOOK_SECONDS = 0.05
_STEP_BYTES = 1 << 16


def read_bounded(path: Path | str, most_bytes: int) -> bytes:
    """Return what is in a file, at most so many bytes of it.

    Raises:
        OSError: it cannot be read, or nothing comes in time.
        ValueError: there is a NUL in its name.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return _read(handle, most_bytes)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, in place of what is in it; to a pipe only if somebody reads from it.

    Raises:
        OSError: it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "nobody reads from this pipe, or it is a socket") from None
        raise
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as file:
        file.write(content)


def require_regular(path: Path | str) -> None:
    """Check that a file is one that can be read again and again.

    Raises:
        OSError: it is a pipe, a device, a folder or a socket, or cannot be looked at.
    """
    mode = Path(path).stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is no regular file")


def _read(handle: int, most_bytes: int) -> bytes:
    mode = os.fstat(handle).st_mode
    begun = time.monotonic()
    found = bytearray()
    while len(found) < most_bytes:
        try:
            chunk = os.read(handle, min(_STEP_BYTES, most_bytes - len(found)))
        except BlockingIOError:  # a pipe with a writer, or a device, that has nothing to say yet
            left = begun + (SILENT_SECONDS if stat.S_ISFIFO(mode) else NOBODY_SECONDS) - time.monotonic()
            complaint = "whoever writes to this pipe does not come to an end"
        else:
            found += chunk
            if chunk:
                continue
            if found or not stat.S_ISFIFO(mode):
                break
            # Nobody has it open for writing: not yet, or no more.
            left, complaint = begun + NOBODY_SECONDS - time.monotonic(), "nobody writes to this pipe"
        if left <= 0:
            raise OSError(errno.ETIMEDOUT, complaint if stat.S_ISFIFO(mode) else "nothing comes from this device")
        select.select([handle], [], [], min(left, _LOOK_SECONDS))
        time.sleep(min(left, 0.005))  # a pipe without a writer counts as readable
    return bytes(found)
