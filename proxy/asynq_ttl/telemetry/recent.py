"""What has happened of late, for whoever asks or watches: decisions, sweeps, fail-opens, reloads, activations.

Invariants:

* Bounded: a ring of the latest entries, and for each watcher a queue that drops the oldest and counts it.
* Adding a decision costs a reference; it is put into words only when somebody asks or watches.
* Never in an entry: a payload, a credential, an argument. Task IDs only where they are wanted.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from asynq_ttl.asynq.keys import printable
from asynq_ttl.events import Adopted, FailedOpen, Outcome, Record, Swept
from asynq_ttl.policy.glob import Glob, GlobError, compile_glob
from asynq_ttl.times import rfc3339

RING_SIZE = 1_000
WATCHER_QUEUE_SIZE = 1_000
MAX_WATCHERS = 32
# Task IDs that the entry of a sweep names, and where longer texts are cut off.
MAX_IDS = 20
MAX_TEXT = 1_024

# A decision whose texts are longer altogether is not kept as it is, but cut off.
_MAX_TEXTS = 2 * MAX_TEXT

Entry = dict[str, Any]


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
        self._task_ids = task_ids
        self._ring: deque[tuple[Record | Entry, str]] = deque(maxlen=RING_SIZE)
        self._watchers: list[Watcher] = []

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    def add(self, record: Record, trace_id: str) -> None:
        """Take note of what happened; `trace_id` is empty where it is in no trace."""
        if isinstance(record, Outcome):
            decision = record.decision
            long = len(decision.task_id) + len(decision.task_type) + len(decision.queue) > _MAX_TEXTS
            kept = self._entry(record, trace_id) if long else record
        else:
            kept = self._entry(record, trace_id)
        self._ring.append((kept, trace_id))
        if self._watchers:
            entry = self._entry(kept, trace_id)
            self.dropped += sum(not watcher.offer(entry) for watcher in self._watchers)

    def latest(self, wanted: EntryFilter, limit: int = RING_SIZE) -> list[Entry]:
        """Return the latest entries that are wanted, newest first."""
        found: list[Entry] = []
        for record, trace_id in reversed(self._ring):
            entry = self._entry(record, trace_id)
            if wanted.matches(entry):
                found.append(entry)
                if len(found) >= limit:
                    break
        return found

    @contextmanager
    def watch(self, wanted: EntryFilter) -> Iterator[Watcher]:
        """Let somebody watch while the block runs."""
        watcher = Watcher(wanted)
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)

    def _entry(self, record: Record | Entry, trace_id: str) -> Entry:
        """Put a record into words: plain data that can be JSON."""
        if isinstance(record, dict):
            return record
        if isinstance(record, Outcome):
            entry = _decision(record)
        elif isinstance(record, Swept):
            entry = _sweep(record)
        elif isinstance(record, Adopted):
            entry = _adoption(record)
        elif isinstance(record, FailedOpen):
            entry = _failure(record)
        else:
            entry = {"kind": record.kind, "time": _time(record.at_ns), "result": record.result}
            entry |= {"detail": printable(record.detail)} if record.detail else {}
        if trace_id:
            entry["trace_id"] = trace_id
        if not self._task_ids:
            entry.pop("id", None)
            entry.pop("ids", None)
        return entry


def _decision(outcome: Outcome) -> Entry:
    decision = outcome.decision
    entry: Entry = {
        "kind": "decision",
        "time": _time(outcome.end_ns),
        "operation": decision.operation,
        "queue": _text(decision.queue),
        "state": decision.state,
        "action": decision.action.value,
        "mode": "enforce" if decision.enforced else "shadow",
        "rule": decision.rule,
        "microseconds": (outcome.end_ns - outcome.start_ns) // 1000,
    }
    optional = {
        "id": _text(decision.task_id),
        "type": _text(decision.task_type),
        "ttl_seconds": decision.ttl_seconds,
        "tasks": outcome.moved,
        "database": outcome.database,
    }
    entry |= {name: value for name, value in optional.items() if value not in ("", None)}
    if outcome.actions:
        entry["tasks_by_action"] = dict(outcome.actions)
    if outcome.reply.startswith((b"-", b"!")):
        entry["error"] = outcome.reply[1:].decode("utf-8", "replace")
    elif not outcome.reply:
        entry["error"] = "no reply"
    return entry


def _sweep(page: Swept) -> Entry:
    return {
        "kind": "sweep",
        "time": _time(page.end_ns),
        "operation": "sweep",
        "queue": _text(page.queue),
        "state": page.state.value,
        "action": "delete" if page.due else "none",
        "mode": "enforce",
        "rule": "",
        "tasks": len(page.due),
        "ghosts": page.ghosts,
        "ids": [_text(task_id) for task_id in page.due[:MAX_IDS]],
        "database": page.database,
    }


def _adoption(tasks: Adopted) -> Entry:
    return {
        "kind": "adoption",
        "time": _time(tasks.end_ns),
        "operation": "adopt",
        "queue": _text(tasks.queue),
        "state": tasks.state.value,
        "action": "ttl",
        "mode": "enforce" if tasks.enforced else "shadow",
        "rule": tasks.rule,
        "ttl_seconds": tasks.ttl_seconds,
        "tasks": len(tasks.ids),
        "undated": tasks.undated,
        "ids": [_text(task_id) for task_id in tasks.ids[:MAX_IDS]],
        "database": tasks.database,
    }


def _failure(failure: FailedOpen) -> Entry:
    entry: Entry = {
        "kind": "fail_open",
        "time": _time(failure.at_ns),
        "reason": failure.reason.value,
        "detail": printable(failure.detail),
    }
    if failure.kind:
        entry["operation"] = failure.kind
        entry["script"] = failure.sha
    entry |= {"queue": _text(failure.queue)} if failure.queue else {}
    entry |= {"id": _text(failure.task_id)} if failure.task_id else {}
    return entry


def _text(text: str) -> str:
    return printable(text[:MAX_TEXT])


def _time(nanoseconds: int) -> str:
    return rfc3339(nanoseconds / 1e9, "milliseconds")
