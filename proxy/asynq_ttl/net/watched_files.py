"""Tells when files may have changed, however they are replaced: policy, certificates and whatever else is read anew.

A file can be written, replaced by a rename, or reached by links: of the file itself, or of a folder on its way, as in
`current/policy.yaml` where `current` leads to a release, or in a volume of Kubernetes. All are watched.

Invariants:

* A change is told within `POLL_SECONDS`, also where the kernel tells of none (a network file system).
* Nothing that happens to the files ends the watching.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from pathlib import Path

from watchfiles import Change, awatch

_log = logging.getLogger("asynq_ttl.files")

POLL_SECONDS = 5
"""How often is looked although nothing was told."""
_STEP_MILLISECONDS = 100
# Links that are followed; the kernel follows forty.
_MOST_LINKS = 40


async def changes(files: Collection[Path]) -> AsyncGenerator[None, None]:
    """Yield whenever the content of one of the files may have changed. Whether it has is for the caller to see.

    Args:
        files: their paths; they need not exist.
    """
    while True:
        entries = _entries(files)
        folders = {entry.parent for entry in entries if entry.parent.is_dir()}

        def concerns(_change: Change, path: str, entries: frozenset[Path] = entries) -> bool:
            return Path(path) in entries

        try:
            told = awatch(
                *folders,
                watch_filter=concerns,
                step=_STEP_MILLISECONDS,
                rust_timeout=int(POLL_SECONDS * 1000),
                yield_on_timeout=True,
                recursive=False,
            )
            async with aclosing(told):
                async for _ in told:
                    yield
                    if _entries(files) != entries:
                        break
        except (OSError, RuntimeError) as error:
            # A folder is gone, or the kernel has no more watches to give.
            _log.debug("watching %s: %s", ", ".join(sorted(map(str, folders))), error)
            await asyncio.sleep(POLL_SECONDS)
            yield


def _entries(files: Collection[Path]) -> frozenset[Path]:
    """Return every directory entry that leads to a file: the file itself, and each link on the way to it."""
    found: set[Path] = set()
    todo = [file.absolute() for file in files]
    while todo and len(found) < _MOST_LINKS * len(files):
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for entry in (path, *path.parents):
            if entry.is_symlink():
                found.add(entry)
                leads_to = os.path.normpath(entry.parent / entry.readlink())
                todo.append(Path(leads_to) / path.relative_to(entry))
    return frozenset(found)
