"""The files of a decision log: which there are, and how lines get into them.

The newest lines are in the file that was named. When it is full, the time is put behind its name and a new one is
begun; of the older ones the oldest go. Nothing but a name of that form is ever taken for one of them, or removed.

Invariants:

* Every line is whole: where the disk is full, what was written of some lines is taken back; what a process left that
  was killed while it wrote gets an end of its own.
* Each file begins with the line that says what is in it, however it came to be empty.
* Together they are no larger than `most_bytes` times their number, and what was appended last.
"""

import os
import re
import stat
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

_STAMP = re.compile(r"\d{8}T\d{6}\.\d{6}")


class LogFiles:
    """Appends to a decision log.

    Args:
        path: the file.
        most_bytes: how large it may get.
        most_files: how many there may be, older ones included; at least 1.
    """

    def __init__(self, path: Path, most_bytes: int, most_files: int) -> None:
        self.path = path
        self.unsynced = False
        """Whether something is written that the disk may not have yet."""
        self._most_bytes = most_bytes
        self._most_files = most_files

    def append(self, first: bytes, content: bytes, *, always: bool = False) -> None:
        """Append whole lines, if need be to a new file.

        Args:
            first: the line with which a file begins.
            content: the lines.
            always: put the first line before them wherever they go.

        Raises:
            OSError: they cannot be written; none of them is.
        """
        with suppress(FileNotFoundError):
            there = self.path.stat()
            full = there.st_size and there.st_size + len(content) > self._most_bytes
            if full and stat.S_ISREG(there.st_mode):
                self._begin_another()
        # Without a buffer, which would be written after all when the file is closed.
        with self.path.open("ab+", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            if not start or always:
                content = first + content
            if start and os.pread(file.fileno(), 1, start - 1) != b"\n":
                content = b"\n" + content
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), start)
                raise
        self.unsynced = True

    def sync(self) -> None:
        """See what was written on the disk.

        Raises:
            OSError: the disk refuses.
        """
        self.unsynced = False
        with suppress(FileNotFoundError), self.path.open("rb") as file:
            os.fsync(file.fileno())

    def _begin_another(self) -> None:
        if self.unsynced:
            self.sync()
        self.path.rename(self.path.with_name(f"{self.path.name}.{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"))
        older = older_files(self.path)
        for oldest in older[: max(len(older) - (self._most_files - 1), 0)]:
            with suppress(FileNotFoundError):
                oldest.unlink()


def older_files(path: Path) -> list[Path]:
    """Return the older files of a decision log, the oldest first.

    Raises:
        OSError: their folder cannot be read.
    """
    start = f"{path.name}."
    found = (file for file in path.parent.iterdir() if file.name.startswith(start))
    return sorted(file for file in found if _STAMP.fullmatch(file.name.removeprefix(start)))
