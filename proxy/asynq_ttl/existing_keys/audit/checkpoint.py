"""A file from which an audit goes on that was interrupted: where the walk stood, and what had been counted.

Knows what an audit has to remember, not how it comes about.

Invariants:

* The file is always whole: it is written beside its place, then moved there.
* A file of another audit (another database, policy or queues) is as good as none.
* What is no checkpoint is neither overwritten nor removed.
"""

import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.existing_keys.audit.counts import Tally, load_tally
from asynq_ttl.existing_keys.database import Cursor
from asynq_ttl.existing_keys.named_files import FileError, named

_SAVE_SECONDS = 2.0

Json = dict[str, Any]
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
        part: the same of where the present part of the walk began, as it is saved; nothing where it has no parts.
    """

    now: int
    cursor: Cursor = 0
    tally: Tally = field(default_factory=Tally)
    suspects: Suspects = field(default_factory=dict)
    part: Json = field(default_factory=dict)

    def begin_part(self) -> None:
        """Take note that a part of the walk begins here: where its node is gone, it begins anew."""
        self.part = deepcopy(self._saved())  # what is counted later does not change it

    def in_part(self, part: Json) -> Self:
        """Take note of where the present part began; return the same progress."""
        self.part = part
        return self

    def dump(self) -> Json:
        """Return it as plain data."""
        return {"now": self.now, **self._saved(), "part": self.part}

    def _saved(self) -> Json:
        suspects = [[*key, [text_of(task_id) for task_id in ids]] for key, ids in self.suspects.items()]
        return {"cursor": self.cursor, "tally": self.tally.dump(), "suspects": suspects}

    def go_on(self, cursor: Cursor) -> None:
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

    def load(self, holds: Callable[[Cursor], bool]) -> Progress | None:
        """Return how far the interrupted audit had come; None where there is none.

        Args:
            holds: says whether the walk can go on at a cursor; else its present part begins anew.

        Raises:
            FileError: the file is something else, or cannot be read.
        """
        if self._path is None or not self._path.exists():
            return None
        content = _content(self._path)
        try:
            if content["run"] != self._run:
                return None
            saved = _loaded(content["now"], content)
            part = content["part"]
            if not holds(saved.cursor):
                saved = _loaded(content["now"], deepcopy(part))
            return saved.in_part(part)
        except (ValueError, KeyError, TypeError):
            return None

    def save(self, progress: Progress) -> None:
        """Write down how far the audit has come, unless that was done a moment ago."""
        if self._path is None or time.monotonic() - self._saved < _SAVE_SECONDS:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        content = {"run": self._run, **progress.dump()}
        with named(fresh):
            fresh.write_text(json.dumps(content))
            fresh.replace(self._path)
        self._saved = time.monotonic()

    def done(self) -> None:
        """Remove the file: the audit has ended."""
        if self._path is not None:
            with named(self._path):
                self._path.unlink(missing_ok=True)


def _loaded(now: int, content: Json) -> Progress:
    suspects = {
        (queue, state): [name.encode("utf-8", "surrogateescape") for name in ids]
        for queue, state, ids in content["suspects"]
    }
    return Progress(now, content["cursor"], load_tally(content["tally"]), suspects)


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
