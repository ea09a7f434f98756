"""What has happened of late, for whoever asks or watches: decisions, sweeps, fail-opens, reloads, activations.

Invariants:

* Bounded: a ring of the latest entries, and for each watcher a queue that drops the oldest and counts it.
* Adding a decision costs a reference; it is put into words only when somebody asks or watches.
* Who else is told, such as the decision log, is given the same records: it must neither block nor raise.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from asynq_ttl.events import Outcome, Record
from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.telemetry.entries import MAX_TEXT, Entry, entry_of, tells_of

RING_SIZE = 1_000
WATCHER_QUEUE_SIZE = 1_000
MAX_WATCHERS = 32

# A decision whose texts are longer altogether is not kept as it is, but cut off.
MAX_TEXTS = 2 * MAX_TEXT


class FilterError(ValueError):
    """A filter that cannot be understood; the message says which and why."""


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """Which entries somebody wants to see. Empty sequences mean any.

    Attributes:
        globs: globs by the field they are about (queue, type).
        words: the values that are wanted by the field they are about.
    """

    globs: Mapping[str, Sequence[Glob]] = field(default_factory=dict)
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def matches(self, entry: Entry) -> bool:
        """Say whether an entry is wanted."""
        return all(
            any(glob.matches(str(entry.get(name, ""))) for glob in globs) for name, globs in self.globs.items()
        ) and all(entry.get(name, "") in words for name, words in self.words.items())


_GLOB_FIELDS = ("queue", "type")
_WORD_FIELDS = ("kind", "state", "rule", "action", "mode")


def parse_filter(pairs: Sequence[tuple[str, str]]) -> EntryFilter:
    """Return the filter that pairs of field and value describe; several values of a field mean any of them.

    Raises:
        FilterError: there is no such field, or a glob is malformed.
    """
    globs: dict[str, list[Glob]] = {}
    words: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _GLOB_FIELDS:
            try:
                globs.setdefault(name, []).append(compile_glob(value))
            except GlobError as error:
                raise FilterError(f"{name}={value}: {error}") from None
        elif name in _WORD_FIELDS:
            words.setdefault(name, []).append(value)
        else:
            raise FilterError(f"there is no field {name!r}; expected one of {', '.join(_GLOB_FIELDS + _WORD_FIELDS)}")
    return EntryFilter(globs, words)


class Watcher:
    """Somebody who sees entries as they come."""

    def __init__(self, wanted: EntryFilter) -> None:
        self.wanted = wanted
        self.dropped = 0
        """Entries that were not fetched in time."""
        self._queue: deque[Entry] = deque()
        self._ready = asyncio.Event()

    def offer(self, entry: Entry) -> bool:
        """Queue an entry if it is wanted. Returns False where another one had to be dropped for it."""
        if not self.wanted.matches(entry):
            return True
        full = len(self._queue) >= WATCHER_QUEUE_SIZE
        if full:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(entry)
        self._ready.set()
        return not full

    async def fetch(self, timeout_seconds: float) -> list[Entry]:
        """Return what has come, or nothing if nothing comes in time."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._ready.wait()
        except TimeoutError:
            return []
        entries = list(self._queue)
        self._queue.clear()
        self._ready.clear()
        return entries


class Recent:
    """The latest entries, and those who watch.

    Args:
        task_ids: whether entries may name tasks.
    """

    def __init__(self, *, task_ids: bool = True) -> None:
        self.dropped = 0
        """Entries that watchers did not fetch in time."""
        self.task_ids = task_ids
        """Whether entries name tasks."""
        self._also: Callable[[Record, str], None] | None = None
        self._ring: deque[tuple[Record | Entry, str]] = deque(maxlen=RING_SIZE)
        self._watchers: list[Watcher] = []
        self._complete: Callable[[], None] = _is_complete

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def before_reading(self, complete: Callable[[], None]) -> None:
        """Have what is not told yet told (`add_told`) before anybody reads, watches, or adds something else."""
        self._complete = complete

    def tell(self, also: Callable[[Record, str], None]) -> None:
        """Let somebody else take every record, with the ID of its trace, from now on."""
        self._also = also

    def add(self, record: Record, trace_id: str) -> None:
        """Take note of what happened; `trace_id` is empty where it is in no trace."""
        self._complete()
        self.add_told([(record, trace_id)])

    def add_told(self, records: Iterable[tuple[Record, str]]) -> None:
        """Take note of what happened, in order, each with the ID of its trace."""
        also, ring = self._also, self._ring
        for record, trace_id in records:
            if also is not None:
                also(record, trace_id)
            kept: Record | Entry = record
            if isinstance(record, Outcome):
                decision = record.decision
                if len(decision.task_id) + len(decision.task_type) + len(decision.queue) > MAX_TEXTS:
                    kept = self._entry(record, trace_id)
            else:
                kept = self._entry(record, trace_id)
            ring.append((kept, trace_id))
            if self._watchers:
                entry = self._entry(kept, trace_id)
                self.dropped += sum(not watcher.offer(entry) for watcher in self._watchers)

    def add_short(self, outcomes: Sequence[tuple[Outcome, str]]) -> None:
        """Do the same with decisions whose texts have `MAX_TEXTS` characters at most."""
        if self._also is None and not self._watchers:
            self._ring.extend(outcomes)
        else:
            self.add_told(outcomes)

    def latest(self, wanted: EntryFilter, limit: int = RING_SIZE) -> list[Entry]:
        """Return the latest entries that are wanted, newest first."""
        self._complete()
        found: list[Entry] = []
        for record, trace_id in reversed(self._ring):
            entry = self._entry(record, trace_id)
            if wanted.matches(entry):
                found.append(entry)
                if len(found) >= limit:
                    break
        return found

    def of_task(self, task_id: str, queue: str = "") -> list[Entry]:
        """Return the latest entries that name a task, oldest first.

        Args:
            task_id: its ID.
            queue: its queue; empty for any.
        """
        self._complete()
        # Most are decisions, of which only those of the task are put into words.
        may = (kept for kept in self._ring if not isinstance(kept[0], Outcome) or kept[0].decision.task_id == task_id)
        entries = (self._entry(record, trace_id) for record, trace_id in may)
        return [entry for entry in entries if tells_of(entry, task_id, queue)]

    @contextmanager
    def watch(self, wanted: EntryFilter) -> Iterator[Watcher]:
        """Let somebody watch while the block runs."""
        self._complete()  # what was before, nobody watches
        watcher = Watcher(wanted)
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    def _entry(self, record: Record | Entry, trace_id: str) -> Entry:
        return record if isinstance(record, dict) else entry_of(record, trace_id, task_ids=self.task_ids)


def _is_complete() -> None:
    """Tell nothing: all is told."""
