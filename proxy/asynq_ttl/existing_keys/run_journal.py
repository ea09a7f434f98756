"""The journal of a run that changes tasks: a file of JSON lines from which a run goes on that was killed.

The first line says which run it is; each line after that is one change; the last says that the run ended. Beside the
file, `FILE.page` holds the page of changes that is being made, and where the walk goes on if the run is killed now.
Knows nothing of Redis, nor of what a change means.

Invariants:

* A page is in `FILE.page` before Redis is asked to make it, and in the journal before the next one is begun. So after
  a SIGKILL only that one page may or may not have been made, and making it again is harmless.
* A run goes on only with a journal of the same tool, database and options.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from asynq_ttl.existing_keys.named_files import FileError, close, named
from asynq_ttl.net.bounded_file import require_regular

Json = dict[str, Any]
_GO_ON = "go on with --resume"


class JournalError(FileError):
    """The journal cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class BegunPage:
    """The page of changes that a run began last.

    Attributes:
        page: its number.
        position: where the walk goes on.
        changes: the changes.
        servers: which servers were changed.
    """

    page: int
    position: tuple[str | int, ...]
    changes: tuple[Json, ...]
    servers: str = ""


class RunJournal:
    """An open journal.

    Args:
        path: the file.
        run: which run it is: tool, database, options. A run that goes on has to be the same.
        now: Redis's time, in Unix seconds. A run that goes on keeps the time of its first start.
        resume: go on with the run that is in the file.

    Raises:
        JournalError: the file is there already, or is not, or is that of another run.
    """

    def __init__(self, path: Path, run: Json, now: int, *, resume: bool = False) -> None:
        self.path = path
        self.now = now
        self._state = path.with_name(path.name + ".page")
        self._page = 0
        try:
            if resume:
                self._check(run)
                begun = self.begun()
                self._page = begun.page if begun is not None else 0
            elif path.exists():
                raise JournalError(f"{path} is there already: name another file, or go on with --resume")
            else:
                self._state.unlink(missing_ok=True)
            self._file: TextIO = path.open("a", encoding="utf-8")
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror}") from error
        if not resume:
            self._write([{"run": run, "now": now}])

    def begin(self, position: Sequence[str | int], changes: Iterable[Json], servers: str = "") -> int:
        """Write down that a page of changes is about to be made; return its number.

        Args:
            position: where the walk goes on if the run is killed now.
            changes: all that the run has to know to make them.
            servers: which servers are changed.
        """
        page = self.new_page()
        content = {"page": page, "position": list(position), "changes": list(changes), "servers": servers}
        text = json.dumps(content)
        fresh = self._state.with_name(self._state.name + ".new")
        with named(fresh, _GO_ON):
            fresh.write_text(text)
            fresh.replace(self._state)
        return page

    def record(self, page: int, changes: Iterable[Json]) -> None:
        """Write down which changes of a page were made."""
        self._write({"page": page, **change} for change in changes)

    def new_page(self) -> int:
        """Count one page more, and return its number."""
        self._page += 1
        return self._page

    def begun(self) -> BegunPage | None:
        """Return the page that was begun last; None where there is none."""
        if not self._state.exists():
            return None
        with named(self._state):
            require_regular(self._state)
            content = json.loads(self._state.read_text())
        changes = tuple(content["changes"])
        return BegunPage(content["page"], tuple(content["position"]), changes, content.get("servers", ""))

    def changes(self) -> Iterator[Json]:
        """Yield the changes that are in the file so far, each with the number of its page."""
        with named(self.path), self.path.open(encoding="utf-8") as file:
            for line in file:
                content = json.loads(line)
                if "page" in content:
                    yield content

    def pause(self) -> None:
        """Write down that the run has left something out: it goes on from its beginning, and finds what is left."""
        self.begin((), ())

    def end(self, summary: Json) -> None:
        """Write down that the run ended: from here on it cannot be resumed."""
        self._write([{"end": summary}])
        with named(self._state):
            self._state.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        why = close(self._file, error)
        if why:
            raise JournalError(f"{self.path}: {why}; {_GO_ON}")

    def _check(self, run: Json) -> None:
        """Check that the file holds this run, and that it did not end; cut off a last line that is incomplete."""
        if not self.path.exists():
            raise JournalError(f"{self.path} is not there: there is no run to go on with")
        require_regular(self.path)
        with self.path.open("rb+") as file:
            first = file.readline()
            last = first
            for line in file:
                if not line.endswith(b"\n"):
                    file.seek(-len(line), 2)
                    file.truncate()
                    break
                last = line
        try:
            begun = json.loads(first)
            ended = "end" in json.loads(last)
            found, self.now = begun["run"], begun["now"]
        except (ValueError, KeyError, TypeError) as error:
            raise JournalError(f"{self.path} is not a journal of this tool") from error
        if ended:
            raise JournalError(f"{self.path} is that of a run that came to its end: there is nothing to go on with")
        if found != run:
            differing = sorted(key for key in {*found, *run} if found.get(key) != run.get(key))
            raise JournalError(f"{self.path} is that of a run with another {', '.join(differing)}")

    def _write(self, lines: Iterable[Json]) -> None:
        with named(self.path, _GO_ON):
            self._file.writelines(json.dumps(line) + "\n" for line in lines)
            self._file.flush()
