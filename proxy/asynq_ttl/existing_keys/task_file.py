"""A file of tasks as JSON lines, which are on the disk before their tasks are removed.

Invariants:

* `sync` returns only when every line written before it is on the disk.
* A file that is there is not written to, unless the run that began it goes on. Then a line that is incomplete, since
  the run was killed, is cut off.
"""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asynq_ttl.existing_keys.named_files import FileError, close, named

# So many bytes are looked through at once for the end of the last whole line.
_STEP = 1 << 16


class TaskFile:
    """An open file.

    Args:
        path: the file.
        resume: go on with a file that is there.

    Raises:
        FileError: it is there already, or cannot be written.
    """

    def __init__(self, path: Path, *, resume: bool = False) -> None:
        self._path = path
        if path.exists() and not resume:
            raise FileError(f"{path} is there already: name another file")
        with named(path):
            self._file = path.open("ab+")
            _cut(self._file)

    def write(self, line: dict[str, Any]) -> None:
        """Write a line."""
        with named(self._path):
            self._file.write(json.dumps(line).encode() + b"\n")

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with named(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        why = close(self._file, error)
        if why:
            raise FileError(f"{self._path}: {why}")


def _cut(file: Any) -> None:  # noqa: ANN401 - any binary file that is open for reading and appending
    """Cut off a last line without an end."""
    size = at = file.seek(0, os.SEEK_END)
    whole = 0
    while at > 0 and not whole:
        begin = max(at - _STEP, 0)
        file.seek(begin)
        end = file.read(at - begin).rfind(b"\n")
        whole = begin + end + 1 if end >= 0 else 0
        at = begin
    if whole < size:
        file.truncate(whole)
