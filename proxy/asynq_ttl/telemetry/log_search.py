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
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from asynq_ttl.telemetry.entries import Entry, mark_of, tells_of
from asynq_ttl.telemetry.log_files import older_files

MOST_ENTRIES = 200
"""Of more entries about one task only the latest are kept."""
# The interpreter is held for so long as a block is searched.
_BLOCK = 1 << 18
_DROPPED, _NAMELESS = b'"kind": "dropped"', b'"task_ids": false'


@dataclass(slots=True)
class LogAnswer:
    """What a decision log says.

    Attributes:
        entries: those about the task, oldest first.
        begins: when its first entry is of; empty where there is none.
        dropped: how many entries it lacks, because they came too fast.
        nameless: whether some of it names no tasks.
        whole: whether all of it was looked at; else what was is the newest part.
    """

    entries: list[Entry] = field(default_factory=list)
    begins: str = ""
    dropped: int = 0
    nameless: bool = False
    whole: bool = True

    def notes(self, name: str) -> list[str]:
        """Return how much the answer is worth, in sentences.

        Args:
            name: what the log is called.
        """
        begins = f"begins at {self.begins}" if self.begins else "is empty"
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
    answer = LogAnswer()
    found: list[list[Entry]] = []
    for file in _opened(path):
        with file:
            if most_bytes is not None:
                size = os.fstat(file.fileno()).st_size
                if size > most_bytes:
                    answer.whole = False
                    file.seek(size - most_bytes)
                most_bytes = max(most_bytes - size, 0)
            found.insert(0, list(_found_in(file, answer, task_id, queue)))
            if not answer.whole:
                break
    answer.entries = [entry for entries in found for entry in entries][-MOST_ENTRIES:]
    return answer


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


def _found_in(file: BinaryIO, answer: LogAnswer, task_id: str, queue: str) -> deque[Entry]:
    """Return the latest entries of a file about a task, and note what else it says."""
    found: deque[Entry] = deque(maxlen=MOST_ENTRIES)
    mark, first = mark_of(task_id), True
    for block in _blocks(file):
        if first and (entry := _entry(block.partition(b"\n")[0])) is not None:
            answer.begins, first = str(entry.get("time", "")), False
        answer.dropped += sum(_number(entry) for entry in _entries(block, _DROPPED))
        answer.nameless = answer.nameless or _NAMELESS in block
        found.extend(entry for entry in _entries(block, mark) if tells_of(entry, task_id, queue))
    return found


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
