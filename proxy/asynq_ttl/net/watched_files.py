"""Files that are watched: whoever uses one is told when there is something else in it, however it was replaced.

Each is looked at once a second. Notices from the kernel (inotify) would be about one folder of one file system: not
about what a link leads to, nor about a folder that is replaced or mounted anew, nor about a network's files.

Invariants:

* What is compared is what a path leads to at that moment. Written in place, moved over, a link or a chain of links, a
  folder that is renamed, gone and back again: all are alike.
* A change is told when two looks in a row have found the same, so as not to read what is half written.
* A file that is gone, cannot be read, or is no regular file is named once in the log and is no change.
* Looking holds up nobody, and somebody who is told and raises keeps nobody from being told.
"""

import asyncio
import hashlib
import logging
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger("asynq_ttl.files")

LOOK_SECONDS = 1.0
_SETTLE_SECONDS = 0.2
# Of a larger file only so much is compared. No policy and no certificate is.
_MOST_BYTES = 4 << 20

_Content = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Watched:
    """Files that are used together.

    Attributes:
        files: the files.
        changed: called when one of them has changed.
    """

    files: tuple[Path, ...]
    changed: Callable[[], object]


class FileWatch:
    """Watches files. What is in them now is taken for known.

    Args:
        watched: the files, and who is told.
    """

    def __init__(self, watched: Iterable[Watched]) -> None:
        self._known = {each: _look(each.files) for each in watched}
        self._missing: set[Watched] = set()

    @property
    def watches(self) -> bool:
        """Whether there is anything to watch."""
        return bool(self._known)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for each in self._known:
                await self._look_at(each)

    async def _look_at(self, each: Watched) -> None:
        found = await asyncio.to_thread(_look, each.files)
        if isinstance(found, str):
            if each not in self._missing:
                self._missing.add(each)
                _log.warning("what is in use stays: %s", found)
            return
        self._missing.discard(each)
        if found == self._known[each]:
            return
        await asyncio.sleep(_SETTLE_SECONDS)
        if await asyncio.to_thread(_look, each.files) != found:
            return  # it is being written; the next look is soon
        self._known[each] = found
        try:
            each.changed()
        except Exception:  # noqa: BLE001 - a bug in one must not end the watching
            _log.exception("%s has changed, and cannot be taken over", each.files[0])


def _look(files: tuple[Path, ...]) -> _Content | str:
    """Return a digest of each file, or why one of them cannot be read."""
    found = []
    for file in files:
        try:
            if not stat.S_ISREG(file.stat().st_mode):
                return f"{file} is no regular file, and is not watched"
            with file.open("rb") as content:
                found.append(hashlib.sha256(content.read(_MOST_BYTES)).digest())
        except (OSError, ValueError) as error:
            return f"{file} cannot be read any more: {getattr(error, 'strerror', None) or error}"
    return tuple(found)
