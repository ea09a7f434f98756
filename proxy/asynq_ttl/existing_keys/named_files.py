"""Says which file it was that could not be read or written, and why. Each file of the tools goes through here.

Invariant: an error of the file system is never taken for one of Redis or of the network.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class FileError(Exception):
    """A file cannot be used; the message names it and says why."""


def close(file: IO[Any], raised: BaseException | None) -> str:
    """Close a file at the end of a block; return why it cannot be written whole, or nothing.

    What could not be written before is what a file tries to write once more when it is closed.

    Args:
        file: the file.
        raised: what has ended the block; that has been told then, and a failure here says no more.
    """
    try:
        file.close()
    except OSError as error:
        return "" if raised is not None else str(error.strerror)
    return ""


@contextmanager
def named(path: Path, hint: str = "") -> Iterator[None]:
    """Name a file in errors of the file system.

    Args:
        path: the file.
        hint: what to do, or nothing.

    Raises:
        FileError: in place of any OSError.
    """
    try:
        yield
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}" + (f"; {hint}" if hint else "")) from error
