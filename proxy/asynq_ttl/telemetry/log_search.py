"""Finds what a decision log says of a task, in all of its files.

Invariants:

* Memory is bounded, whatever is in the files: they are read in blocks, a longer line is passed over, and of what is
  found the latest `MOST_ENTRIES` are kept.
* Lines that are no entries, such as one that is only half there, are passed over. Nothing is ever written.
* A file that is no regular one is an error, not something to wait for.
"""

import errno
import json
import os
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from asynq_ttl.telemetry.entries import Entry, mark_of, tells_of
from asynq_ttl.telemetry.log_files import older_files

MOST_ENTRIES = 200
"""Of more entries about one task only the latest are kept."""
# The interpreter is held for so long as a block is searched.
_BLOCK = 1 << 18
_DROPPED, _NAMELESS = b'"kind": "dropped"', b'"task_ids": false'


@dataclass(frozen=True, slots=True)
class LogAnswer:
    """What a decision log says.

    Attributes:
        entries: those about the task, oldest first.
        begins: when its first entry is of; empty where there is none.
        size: how many bytes it has.
        dropped: how many entries it lacks.
        nameless: whether some of it names no tasks.
        whole: whether all of it was looked at; else what was is the newest part.
    """

    entries: list[Entry]
    begins: str
    size: int
    dropped: int
    nameless: bool
    whole: bool

    def notes(self, name: str) -> list[str]:
        """Return how much the answer is worth, in sentences.

        Args:
            name: what the log is called.
        """
        empty = "has no line that is an entry" if self.size else "is empty"
        begins = f"begins at {self.begins}" if self.begins else empty
        told = [f"The decision log {name} {begins}."]
        if not self.whole:
            told.append("It was too large to be looked at whole: only what is newest was.")
        if self.dropped:
            told.append(f"It lacks {self.dropped:,} entries, which came too fast or while it could not be written.")
        if self.nameless:
            told.append("Some of it names no tasks: a sidecar wrote it with --hide-task-ids.")
        return told


def search(path: Path, task_id: str, queue: str = "", most_bytes: int | None = None) -> LogAnswer:
    """Return what a decision log says of a task.

    Args:
        path: its newest file. The older ones are beside it.
        task_id: the task's ID.
        queue: its queue; empty for any.
        most_bytes: about so much is looked at, from the newest file on; None for all.

    Raises:
        OSError: a file cannot be read.
    """
    told: list[LogAnswer] = []
    for file in _opened(path):
        with file:
            size, whole = os.fstat(file.fileno()).st_size, True
            if most_bytes is not None:
                if size > most_bytes:
                    whole = False
                    file.seek(size - most_bytes)
                most_bytes = max(most_bytes - size, 0)
            told.insert(0, _answer_of(file, task_id, queue, whole=whole))
            if not whole:
                break
    return LogAnswer(
        [entry for each in told for entry in each.entries][-MOST_ENTRIES:],
        next((each.begins for each in told if each.begins), ""),
        sum(each.size for each in told),
        sum(each.dropped for each in told),
        any(each.nameless for each in told),
        all(each.whole for each in told),
    )


def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the files, the newest first. One that is given another name meanwhile is yielded once."""
    seen = set()
    for each in (path, *reversed(older_files(path))):
        try:
            number = os.open(each, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            if each == path and not older_files(path):
                raise
            continue
        told = os.fstat(number)
        if not stat.S_ISREG(told.st_mode):
            os.close(number)
            raise OSError(errno.EINVAL, "is no regular file", str(each))
        if (told.st_dev, told.st_ino) in seen:
            os.close(number)
            continue
        seen.add((told.st_dev, told.st_ino))
        yield os.fdopen(number, "rb", buffering=0)


def _answer_of(file: BinaryIO, task_id: str, queue: str, *, whole: bool) -> LogAnswer:
    """Return what one file says, from where it is opened."""
    found: deque[Entry] = deque(maxlen=MOST_ENTRIES)
    mark, begins, dropped, nameless = mark_of(task_id), "", 0, False
    for block in _blocks(file):
        begins = begins or next((str(entry["time"]) for entry in map(_entry, block.split(b"\n")) if entry), "")
        dropped += sum(_number(entry) for entry in _entries(block, _DROPPED))
        nameless = nameless or _NAMELESS in block
        found.extend(entry for entry in _entries(block, mark) if tells_of(entry, task_id, queue))
    return LogAnswer(list(found), begins, os.fstat(file.fileno()).st_size, dropped, nameless, whole)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines; but the last may be a part of one, and of longer lines there are parts."""
    rest = b""
    while read := file.read(_BLOCK):
        block, end, rest = (rest + read).rpartition(b"\n")
        if end:
            yield block + end
        elif len(rest) > _BLOCK:
            rest = b""
    if rest:
        yield rest


def _entries(block: bytes, mark: bytes) -> Iterator[Entry]:
    """Yield the entries of a block whose lines have a mark in them."""
    at = block.find(mark)
    while at >= 0:
        end = block.find(b"\n", at)
        end = len(block) if end < 0 else end
        entry = _entry(block[block.rfind(b"\n", 0, at) + 1 : end])
        if entry is not None:
            yield entry
        at = block.find(mark, end)


def _entry(line: bytes) -> Entry | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("time"), str) else None


def _number(entry: Entry) -> int:
    dropped = entry.get("entries") if entry.get("kind") == "dropped" else 0
    return dropped if isinstance(dropped, int) else 0
