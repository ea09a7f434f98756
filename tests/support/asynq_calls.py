"""Asynq's operations as Asynq v0.26.0 sends them: its own scripts, its own KEYS and ARGV (internal/rdb).

`CALLS` builds calls; `calls_of` returns what sends them, and returns the replies. The scripts are read from the Go
module cache. As go-redis does, a script is called by its SHA, and by its text where the server does not know it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import redis

from asynq_ttl.rewriting.registry import sha_of
from support.asynq_source import scripts

VERSION = "v0.26.0"
QUEUE = "q"
PREFIX = f"asynq:{{{QUEUE}}}:"
TASK = f"{PREFIX}t:"
OWN_SECONDS = 90 * 86_400
LEASE_SECONDS = 30
OWN_CAP = 10_000
_MAX_INT64 = 2**63 - 1

Value = str | bytes | int
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """One call of a script, as Asynq makes it.

    Attributes:
        script: the script's name in Asynq's source.
        keys: KEYS.
        args: ARGV.
        announced: whether Asynq adds the queue to the set of its queues before.
        foreign: the text of a script that is not Asynq's; empty for one that is.
    """

    script: str
    keys: tuple[str, ...]
    args: tuple[Value, ...]
    announced: bool = False
    foreign: bytes = b""

    @property
    def text(self) -> bytes:
        """The script's text."""
        return self.foreign or scripts(VERSION)[self.script]

    @property
    def words(self) -> tuple[Value, ...]:
        """What comes after EVAL or EVALSHA and the script: numkeys, KEYS and ARGV."""
        return (len(self.keys), *self.keys, *self.args)

    @property
    def encoded(self) -> list[bytes]:
        """The same, as bytes."""
        return [word if isinstance(word, bytes) else str(word).encode() for word in self.words]


@dataclass(frozen=True)
class Failure:
    """An error reply; equal to another whose text begins alike."""

    text: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Failure) and (self.text.startswith(other.text) or other.text.startswith(self.text))

    __hash__ = None  # type: ignore[assignment]


def task_key(task_id: str) -> str:
    """Return the key of a task."""
    return TASK + task_id


class AsynqCalls(Generic[T]):
    """What Asynq's client, worker and inspector do to one queue.

    Args:
        send: what is done with a call; every method returns what it returns.
        queue: the queue's name.
        counters_until: when the day's counters are over; None for 90 days after each call.
    """

    def __init__(self, send: Callable[[Call], T], queue: str = QUEUE, counters_until: int | None = None) -> None:
        self._send = send
        self._queue = queue
        self._prefix = f"asynq:{{{queue}}}:"
        self._tasks = f"{self._prefix}t:"
        self._groups = f"{self._prefix}g:"
        self._counters_until = counters_until

    # --- the client ------------------------------------------------------------------------------------------

    def enqueue(self, task_id: str, message: bytes, unique: str | None, now: int) -> T:
        """Add a task to the pending list."""
        keys = [self._task(task_id), f"{self._prefix}pending"]
        if unique is None:
            return self._run("enqueueCmd", keys, [message, task_id, now * 10**9], announced=True)
        return self._run(
            "enqueueUniqueCmd", [*self._lock(unique), *keys], [task_id, 86_400, message, now * 10**9], announced=True
        )

    def schedule(self, task_id: str, message: bytes, unique: str | None, at: int) -> T:
        """Add a task for later."""
        keys = [self._task(task_id), f"{self._prefix}scheduled"]
        if unique is None:
            return self._run("scheduleCmd", keys, [message, at, task_id], announced=True)
        return self._run(
            "scheduleUniqueCmd", [*self._lock(unique), *keys], [task_id, 86_400, at, message], announced=True
        )

    def add_to_group(self, task_id: str, message: bytes, group: str, now: int, unique: str | None = None) -> T:
        """Add a task to a group."""
        keys = [self._task(task_id), self._groups + group, f"{self._prefix}groups"]
        args: list[Value] = [message, task_id, now, group]
        if unique is None:
            return self._run("addToGroupCmd", keys, args, announced=True)
        return self._run("addToGroupUniqueCmd", [*keys, *self._lock(unique)], [*args, 86_400], announced=True)

    # --- the worker ------------------------------------------------------------------------------------------

    def dequeue(self, now: int) -> T:
        """Take the next pending task."""
        return self._run(
            "dequeueCmd", self._keys("pending", "paused", "active", "lease"), [now + LEASE_SECONDS, self._tasks]
        )

    def done(self, task_id: str, unique: str | None, now: int) -> T:
        """Finish a task without a retention."""
        keys = [*self._keys("active", "lease"), self._task(task_id), *self._keys("processed:day", "processed")]
        name = "doneCmd" if unique is None else "doneUniqueCmd"
        return self._run(name, [*keys, *self._lock(unique)], [task_id, self._until(now), _MAX_INT64])

    def complete(self, task_id: str, message: bytes, retention: int, unique: str | None, now: int) -> T:
        """Finish a task with a retention."""
        keys = [
            *self._keys("active", "lease", "completed"),
            self._task(task_id),
            *self._keys("processed:day", "processed"),
        ]
        name = "markAsCompleteCmd" if unique is None else "markAsCompleteUniqueCmd"
        args: list[Value] = [task_id, self._until(now), now + retention, message, _MAX_INT64]
        return self._run(name, [*keys, *self._lock(unique)], args)

    def retry(self, task_id: str, message: bytes, at: int, now: int) -> T:
        """Put a failed task off."""
        counters = self._keys("processed:day", "failed:day", "processed", "failed")
        keys = [self._task(task_id), *self._keys("active", "lease", "retry"), *counters]
        return self._run("retryCmd", keys, [task_id, message, at, self._until(now), 1, _MAX_INT64])

    def archive(self, task_id: str, message: bytes, now: int, cap: int = OWN_CAP) -> T:
        """Archive a task that has failed for the last time."""
        counters = self._keys("processed:day", "failed:day", "processed", "failed")
        keys = [self._task(task_id), *self._keys("active", "lease", "archived"), *counters, self._tasks]
        limits = (now, now - OWN_SECONDS, cap)
        return self._run("archiveCmd", keys, [task_id, message, *limits, self._until(now), _MAX_INT64])

    def requeue(self, task_id: str) -> T:
        """Give a task back."""
        return self._run("requeueCmd", [*self._keys("active", "lease", "pending"), self._task(task_id)], [task_id])

    def forward(self, source: str, now: int) -> T:
        """Move what is due from `scheduled` or `retry`."""
        return self._run("forwardCmd", self._keys(source, "pending"), [now, self._tasks, now * 10**9, self._groups])

    def lease_expired(self, cutoff: int) -> T:
        """List the messages of active tasks whose lease is over."""
        return self._run("listLeaseExpiredCmd", self._keys("lease"), [cutoff, self._tasks])

    def janitor(self, now: int, batch: int = 100) -> T:
        """Delete completed tasks that are due."""
        return self._run("deleteExpiredCompletedTasksCmd", self._keys("completed"), [now, self._tasks, batch])

    # --- the inspector ---------------------------------------------------------------------------------------

    def run_one(self, task_id: str) -> T:
        """Run a task now."""
        keys = [self._task(task_id), *self._keys("pending", "groups")]
        return self._run("runTaskCmd", keys, [task_id, self._prefix, self._groups])

    def run_all(self, source: str) -> T:
        """Run all tasks of `scheduled`, `retry` or `archived` now."""
        return self._run("runAllCmd", self._keys(source, "pending"), [self._tasks])

    def run_group(self, group: str) -> T:
        """Run all tasks of a group now."""
        return self._run(
            "runAllAggregatingCmd", [self._groups + group, *self._keys("pending", "groups")], [self._tasks, group]
        )

    def archive_one(self, task_id: str, now: int) -> T:
        """Archive a task by hand."""
        keys = [self._task(task_id), *self._keys("archived", "groups")]
        return self._run("archiveTaskCmd", keys, [task_id, now, now - OWN_SECONDS, OWN_CAP, self._prefix, self._groups])

    def archive_all(self, source: str, now: int, cap: int = OWN_CAP) -> T:
        """Archive all tasks of `scheduled`, `retry` or `pending`."""
        limits = [now, now - OWN_SECONDS, cap]
        if source == "pending":
            return self._run("archiveAllPendingCmd", self._keys(source, "archived"), [*limits, self._tasks])
        return self._run("archiveAllCmd", self._keys(source, "archived"), [*limits, self._tasks, self._queue])

    def archive_group(self, group: str, now: int) -> T:
        """Archive all tasks of a group."""
        keys = [self._groups + group, *self._keys("archived", "groups")]
        return self._run("archiveAllAggregatingCmd", keys, [now, now - OWN_SECONDS, OWN_CAP, self._tasks, group])

    def delete_one(self, task_id: str) -> T:
        """Delete a task."""
        return self._run(
            "deleteTaskCmd", [self._task(task_id), *self._keys("groups")], [task_id, self._prefix, self._groups]
        )

    def delete_all(self, source: str) -> T:
        """Delete all tasks of `pending`, `scheduled`, `retry`, `archived` or `completed`."""
        if source == "pending":
            return self._run("deleteAllPendingCmd", self._keys(source), [self._tasks])
        return self._run("deleteAllCmd", self._keys(source), [self._tasks, self._queue])

    def delete_group(self, group: str) -> T:
        """Delete all tasks of a group."""
        return self._run("deleteAllAggregatingCmd", [self._groups + group, *self._keys("groups")], [self._tasks, group])

    # --- the readers behind GetQueueInfo and the lists ---------------------------------------------------------

    def stats(self) -> T:
        """Return the number of tasks by state, as a dashboard counts them; see `counted`."""
        counters = ("processed:day", "failed:day", "processed", "failed", "paused", "groups")
        return self._run("currentStatsCmd", self._keys(*_COUNTED, *counters), [self._tasks, self._groups])

    def memory_usage(self) -> T:
        """Return the memory a queue takes; fails on a list or index that names a task which is not there."""
        keys = self._keys("active", "pending", "scheduled", "retry", "archived", "completed", "groups")
        return self._run("memoryUsageCmd", keys, [self._tasks, 20, 5, self._groups])

    def listed(self, index: str) -> T:
        """Return the entries of an index as a dashboard lists them; each is a message, a score and a result."""
        return self._run("listZSetEntriesCmd", self._keys(index), [0, 99, self._tasks])

    def call_foreign(self, name: str, text: bytes, keys: list[str], args: list[Value]) -> T:
        """Call a script of another program."""
        return self._send(Call(name, tuple(keys), tuple(args), foreign=text))

    def _run(self, script: str, keys: list[str], args: list[Value], *, announced: bool = False) -> T:
        return self._send(Call(script, tuple(keys), tuple(args), announced))

    def _task(self, task_id: str) -> str:
        return self._tasks + task_id

    def _keys(self, *names: str) -> list[str]:
        return [self._prefix + name for name in names]

    def _lock(self, unique: str | None) -> list[str]:
        return [] if unique is None else [f"{self._prefix}unique:{unique}"]

    def _until(self, now: int) -> int:
        return now + OWN_SECONDS if self._counters_until is None else self._counters_until


CALLS = AsynqCalls(lambda call: call)
"""Builds calls and does not send them."""


def calls_of(client: "redis.Redis") -> AsynqCalls[Any]:
    """Return what sends calls over a connection, and returns the replies; an error is a `Failure`."""

    def send(call: Call) -> Any:
        if call.announced:
            client.sadd("asynq:queues", QUEUE)
        try:
            try:
                return client.execute_command("EVALSHA", sha_of(call.text), *call.words)
            except redis.exceptions.NoScriptError:
                return client.execute_command("EVAL", call.text, *call.words)
        except redis.ResponseError as error:
            return Failure(str(error))

    return AsynqCalls(send)


_COUNTED = ("pending", "active", "scheduled", "retry", "archived", "completed")


def counted(reply: Any) -> dict[str, int]:
    """Return what `stats` was replied as the number of tasks by state."""
    return {name: reply[2 * position + 1] for position, name in enumerate(_COUNTED)}
