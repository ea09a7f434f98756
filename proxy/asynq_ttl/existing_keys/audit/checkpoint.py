"""A file from which an audit goes on that was interrupted: where the walk stood, and what had been counted.

Knows what an audit has to remember, not how it comes about.

Invariants:

* The file is always whole: it is written beside its place, then moved there.
* A file of another audit (another database, policy or queues) is as good as none.
* What is no checkpoint is neither overwritten nor removed.
"""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.existing_keys.audit.counts import Tally, load_tally
from asynq_ttl.existing_keys.named_files import FileError, named

_SAVE_SECONDS = 2.0

Suspects = dict[tuple[str, str], list[bytes]]
"""By queue and state, the IDs of tasks that were not where their state says: they may be lost."""


@dataclass(slots=True)
class Progress:
    """How far an audit has come.

    Attributes:
        now: when it was started first, in Unix seconds by Redis's clock.
        cursor: where the walk through the keyspace goes on.
        tally: what was counted.
        suspects: tasks that are to be read again.
    """

    now: int
    cursor: int = 0
    tally: Tally = field(default_factory=Tally)
    suspects: Suspects = field(default_factory=dict)

    def go_on(self, cursor: int) -> None:
        """Take note of where the walk through the keyspace goes on."""
        self.cursor = cursor

    def take_suspects(self) -> Suspects:
        """Return the suspects, and forget them."""
        suspects, self.suspects = self.suspects, {}
        return suspects


class Checkpoint:
    """The file.

    Args:
        path: the file; None for none.
        run: which audit it is: database, policy, queues.
    """

    def __init__(self, path: Path | None, run: dict[str, Any]) -> None:
        self._path = path
        self._run = run
        self._saved = time.monotonic()

    def load(self) -> Progress | None:
        """Return how far the interrupted audit had come; None where there is none.

        Raises:
            FileError: the file is something else, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        content = _content(self._path)
        try:
            if content["run"] != self._run:
                return None
            suspects = {
                (queue, state): [name.encode("utf-8", "surrogateescape") for name in ids]
                for queue, state, ids in content["suspects"]
            }
            return Progress(content["now"], content["cursor"], load_tally(content["tally"]), suspects)
        except (ValueError, KeyError, TypeError):
            return None

    def save(self, progress: Progress) -> None:
        """Write down how far the audit has come, unless that was done a moment ago."""
        if self._path is None or time.monotonic() - self._saved < _SAVE_SECONDS:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        content = {
            "run": self._run,
            "cursor": progress.cursor,
            "now": progress.now,
            "tally": progress.tally.dump(),
            "suspects": [[*key, [text_of(task_id) for task_id in ids]] for key, ids in progress.suspects.items()],
        }
        with named(fresh):
            fresh.write_text(json.dumps(content))
            fresh.replace(self._path)
        self._saved = time.monotonic()

    def done(self) -> None:
        """Remove the file: the audit has ended."""
        if self._path is not None:
            with named(self._path):
                self._path.unlink(missing_ok=True)


def _content(path: Path) -> dict[str, Any]:
    """Return what is in a checkpoint."""
    with named(path):
        text = path.read_bytes() if path.is_file() else b""  # a device may have no end
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if not isinstance(content, dict) or "run" not in content:
        raise FileError(f"{path} is there already, and is no checkpoint: name another file")
    return content
