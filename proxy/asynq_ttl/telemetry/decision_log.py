"""The decision log: a file with a JSON line for each decision, adoption, removal, fail-open, reload and switch.

The data path hands a record over by reference; a thread puts it into words and writes it.

Invariants:

* `add` neither blocks nor raises, whatever the disk does. What waits is bounded by its bytes; a record for which there
  is no room is dropped, counted, and told: in the file by a line of its own, and in the log.
* A file that cannot be written stops nothing. It is named once, tried again each second, and named again when it works.
  What waits then is written in its order.
* What was written is synced to the disk within about `SYNC_SECONDS`, and at the end.
* Ending takes no longer than it is given, and the thread keeps no process from ending.
* Never in the file: a payload, a credential, an argument. Task IDs only where they are wanted.
"""

import json
import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from importlib import metadata
from itertools import islice
from pathlib import Path

from asynq_ttl.events import Adopted, FailedOpen, Outcome, Record, Swept
from asynq_ttl.telemetry.entries import Entry, entries_of, time_of
from asynq_ttl.telemetry.log_files import LogFiles
from asynq_ttl.telemetry.logs import Repetition
from asynq_ttl.telemetry.metrics import Metrics

_log = logging.getLogger("asynq_ttl.decisions")

MOST_BYTES = 8 << 20
"""About how many bytes of records may wait to be written."""
SYNC_SECONDS = 1.0
# So long is waited for more before the thread looks again, and after a failure.
_GATHER_SECONDS = 0.1
_AGAIN_SECONDS = 1.0
# The lines of one write. Putting so many into words takes about a millisecond, for which the event loop may wait.
_PIECE = 64
# What a record takes beside its texts, and each task ID beside its own.
_RECORD_BYTES, _TASK_BYTES = 400, 60

DEFAULT_MEGABYTES, DEFAULT_FILES = 100, 10


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where a decision log is.

    Attributes:
        path: its file.
        megabytes: how large that may get before another one is begun.
        files: how many there may be, older ones included.
    """

    path: Path
    megabytes: int = DEFAULT_MEGABYTES
    files: int = DEFAULT_FILES

    def open(self, *, task_ids: bool) -> "DecisionLog":
        """Return the log, of which nothing is opened yet.

        Args:
            task_ids: whether lines may name tasks.
        """
        return DecisionLog(LogFiles(self.path, self.megabytes << 20, self.files), task_ids=task_ids)


class DecisionLog:
    """Writes records to files.

    Args:
        files: where.
        task_ids: whether lines may name tasks.

    Attributes:
        lines: how many lines were written.
        failures: how often writing has failed.
        problem: why nothing can be written at the moment, with the name of the file; empty where it can.
    """

    def __init__(self, files: LogFiles, *, task_ids: bool) -> None:
        self.lines = 0
        self.failures = 0
        self.problem = ""
        self.path = files.path
        self._files = files
        self._task_ids = task_ids
        # One thread alone changes each number: what came, and had no room, who tells; the others, the writer.
        self._came = self._no_room = 0
        self._went = self._lost = self._told = 0
        self._queue: deque[tuple[Record, str, int]] = deque()
        self._ready: deque[bytes] = deque()
        self._synced_at = 0.0
        self._begun = False
        self._repetition = Repetition()
        self._woken, self._ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="decisions", daemon=True)

    @property
    def dropped(self) -> int:
        """How many records were dropped."""
        return self._no_room + self._lost

    def start(self) -> None:
        """Begin to write: first of all, that a sidecar writes from now on."""
        self._thread.start()

    def add(self, record: Record, trace_id: str) -> None:
        """Take note of what happened; `trace_id` is empty where it is in no trace. Called by one thread alone."""
        size = _bytes_of(record)
        if self._came - self._went + size > MOST_BYTES:
            self._no_room += 1
            return
        self._came += size
        self._queue.append((record, trace_id, size))
        if not self._woken.is_set():
            self._woken.set()

    def close(self, seconds: float) -> None:
        """Write what waits, and end. What cannot be written in so many seconds is lost."""
        self._ending.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            written = self._write_all()
            ending = self._ending.is_set()
            if written and (ending or time.monotonic() - self._synced_at >= SYNC_SECONDS):
                self._sync()
            if ending and not (written and self._queue):
                return
            self._ending.wait(_GATHER_SECONDS if written else _AGAIN_SECONDS)
            self._woken.wait(SYNC_SECONDS if self._files.unsynced else None if written else 0)
            self._woken.clear()

    def _write_all(self) -> bool:
        """Write what waits; say whether that went well."""
        while self._put_into_words() or not self._begun:
            lines = list(islice(self._ready, _PIECE))
            try:
                self._files.append(self._first(), b"".join(lines), always=not self._begun)
            except OSError as error:
                self._failed(error)
                return False
            self._begun = True
            self._worked()
            self.lines += len(lines)
            for _ in lines:
                self._ready.popleft()
        return True

    def _put_into_words(self) -> bool:
        """Turn records into lines until there are enough for a write; say whether there are any."""
        if not self.problem and (dropped := self.dropped) > self._told:
            missing, self._told = dropped - self._told, dropped
            self._ready.append(_line({"kind": "dropped", "time": time_of(time.time_ns()), "entries": missing}))
            more = self._repetition.allows("dropped")
            if more is not None:
                what = f"{missing} entries: too many waited{more}"
                _log.warning("the decision log %s lacks %s", self.path, what)
        while self._queue and len(self._ready) < _PIECE:
            record, trace_id, size = self._queue.popleft()
            try:
                self._ready.extend(map(_line, entries_of(record, trace_id, task_ids=self._task_ids)))
            except Exception:  # noqa: BLE001 - a bug costs this record, not the log
                self._lost += 1
                _log.exception("the decision log %s cannot tell of something", self.path)
            self._went += size
        return bool(self._ready)

    def _sync(self) -> None:
        self._synced_at = time.monotonic()
        if self._files.unsynced:
            try:
                self._files.sync()
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        self.failures += 1
        reason = error.strerror or error
        if not self.problem:
            _log.warning("the decision log %s cannot be written, entries wait and may be lost: %s", self.path, reason)
        self.problem = f"the decision log {self.path} cannot be written: {reason}"

    def _worked(self) -> None:
        if self.problem:
            self.problem = ""
            _log.info("the decision log %s is written again", self.path)

    def _first(self) -> bytes:
        """Return the line with which a file, and the writing of a sidecar, begins."""
        told = {"version": metadata.version("asynq-ttl"), "task_ids": self._task_ids}
        return _line({"kind": "begin", "time": time_of(time.time_ns()), **told})


def register_decision_log(metrics: Metrics, log: DecisionLog | None) -> None:
    """Declare what is written, where there is a decision log."""
    counter = metrics.counter
    counter("asynq_ttl.decision_log.lines", "Lines of the decision log.", lambda: log.lines if log else 0)
    counter("asynq_ttl.decision_log.dropped", "Records dropped from the log.", lambda: log.dropped if log else 0)
    counter("asynq_ttl.decision_log.failures", "Failed writes of the log.", lambda: log.failures if log else 0)
    metrics.gauge(
        "asynq_ttl.decision_log.failing",
        "1 if the decision log cannot be written.",
        lambda: int(bool(log and log.problem)),
    )


def _line(entry: Entry) -> bytes:
    return json.dumps(entry).encode() + b"\n"


def _bytes_of(record: Record) -> int:
    """Return about how many bytes a record takes."""
    if isinstance(record, Outcome):
        told = record.decision
        return _RECORD_BYTES + len(told.task_id) + len(told.task_type) + len(told.queue) + len(told.tracestate)
    if isinstance(record, Swept):
        return _RECORD_BYTES + sum(map(len, record.due)) + _TASK_BYTES * len(record.due)
    if isinstance(record, Adopted):
        return _RECORD_BYTES + sum(map(len, record.ids)) + _TASK_BYTES * len(record.ids)
    if isinstance(record, FailedOpen):
        return _RECORD_BYTES + len(record.detail) + len(record.task_id) + len(record.queue)
    return _RECORD_BYTES + len(record.detail)
