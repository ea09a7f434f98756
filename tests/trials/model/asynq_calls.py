"""Asynq's operations as Asynq v0.26.0 sends them: its own scripts, its own KEYS and ARGV (internal/rdb).

The scripts are read from the Go module cache. As go-redis does, a script is called by its SHA, and by its text where
the server does not know it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from support.asynq_source import scripts

VERSION = "v0.26.0"
QUEUE = "q"
PREFIX = f"asynq:{{{QUEUE}}}:"
TASK = f"{PREFIX}t:"
GROUP = f"{PREFIX}g:"
OWN_SECONDS = 90 * 86_400
LEASE_SECONDS = 30
_OWN_CAP = 10_000
_MAX_INT64 = 2**63 - 1


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


def lock_key(unique: str) -> str:
    """Return the key of a uniqueness lock."""
    return f"{PREFIX}unique:{unique}"


class AsynqCalls:
    """Asynq's client, worker and inspector on one connection. Every method returns the reply."""

    def __init__(self, client: "redis.Redis") -> None:
        self._client = client
        self._texts = scripts(VERSION)

    # --- the client ------------------------------------------------------------------------------------------

    def enqueue(self, task_id: str, message: bytes, unique: str | None, now: int) -> Any:
        """Add a task to the pending list."""
        self._client.sadd("asynq:queues", QUEUE)
        keys = [task_key(task_id), f"{PREFIX}pending"]
        if unique is None:
            return self._run("enqueueCmd", keys, [message, task_id, now * 10**9])
        return self._run("enqueueUniqueCmd", [lock_key(unique), *keys], [task_id, 86_400, message, now * 10**9])

    def schedule(self, task_id: str, message: bytes, unique: str | None, at: int) -> Any:
        """Add a task for later."""
        self._client.sadd("asynq:queues", QUEUE)
        keys = [task_key(task_id), f"{PREFIX}scheduled"]
        if unique is None:
            return self._run("scheduleCmd", keys, [message, at, task_id])
        return self._run("scheduleUniqueCmd", [lock_key(unique), *keys], [task_id, 86_400, at, message])

    def add_to_group(self, task_id: str, message: bytes, group: str, now: int) -> Any:
        """Add a task to a group."""
        self._client.sadd("asynq:queues", QUEUE)
        keys = [task_key(task_id), GROUP + group, f"{PREFIX}groups"]
        return self._run("addToGroupCmd", keys, [message, task_id, now, group])

    # --- the worker ------------------------------------------------------------------------------------------

    def dequeue(self, now: int) -> Any:
        """Take the next pending task."""
        return self._run("dequeueCmd", _keys("pending", "paused", "active", "lease"), [now + LEASE_SECONDS, TASK])

    def done(self, task_id: str, unique: str | None, now: int) -> Any:
        """Finish a task without a retention."""
        keys = [*_keys("active", "lease"), task_key(task_id), *_keys("processed:day", "processed")]
        name = "doneCmd" if unique is None else "doneUniqueCmd"
        return self._run(name, [*keys, *_lock(unique)], [task_id, now + OWN_SECONDS, _MAX_INT64])

    def complete(self, task_id: str, message: bytes, retention: int, unique: str | None, now: int) -> Any:
        """Finish a task with a retention."""
        keys = [*_keys("active", "lease", "completed"), task_key(task_id), *_keys("processed:day", "processed")]
        name = "markAsCompleteCmd" if unique is None else "markAsCompleteUniqueCmd"
        args: list[str | bytes | int] = [task_id, now + OWN_SECONDS, now + retention, message, _MAX_INT64]
        return self._run(name, [*keys, *_lock(unique)], args)

    def retry(self, task_id: str, message: bytes, at: int, now: int) -> Any:
        """Put a failed task off."""
        counters = _keys("processed:day", "failed:day", "processed", "failed")
        keys = [task_key(task_id), *_keys("active", "lease", "retry"), *counters]
        return self._run("retryCmd", keys, [task_id, message, at, now + OWN_SECONDS, 1, _MAX_INT64])

    def archive(self, task_id: str, message: bytes, now: int) -> Any:
        """Archive a task that has failed for the last time."""
        counters = _keys("processed:day", "failed:day", "processed", "failed")
        keys = [task_key(task_id), *_keys("active", "lease", "archived"), *counters, TASK]
        limits = (now, now - OWN_SECONDS, _OWN_CAP)
        return self._run("archiveCmd", keys, (task_id, message, *limits, now + OWN_SECONDS, _MAX_INT64))

    def requeue(self, task_id: str) -> Any:
        """Give a task back."""
        return self._run("requeueCmd", [*_keys("active", "lease", "pending"), task_key(task_id)], [task_id])

    def forward(self, source: str, now: int) -> Any:
        """Move what is due from `scheduled` or `retry`."""
        return self._run("forwardCmd", _keys(source, "pending"), [now, TASK, now * 10**9, GROUP])

    def lease_expired(self, cutoff: int) -> Any:
        """List the messages of active tasks whose lease is over."""
        return self._run("listLeaseExpiredCmd", _keys("lease"), [cutoff, TASK])

    def janitor(self, now: int) -> Any:
        """Delete completed tasks that are due."""
        return self._run("deleteExpiredCompletedTasksCmd", _keys("completed"), [now, TASK, 100])

    # --- the inspector ---------------------------------------------------------------------------------------

    def run_one(self, task_id: str) -> Any:
        """Run a task now."""
        keys = [task_key(task_id), *_keys("pending", "groups")]
        return self._run("runTaskCmd", keys, [task_id, PREFIX, GROUP])

    def run_all(self, source: str) -> Any:
        """Run all tasks of `scheduled`, `retry` or `archived` now."""
        return self._run("runAllCmd", _keys(source, "pending"), [TASK])

    def run_group(self, group: str) -> Any:
        """Run all tasks of a group now."""
        return self._run("runAllAggregatingCmd", [GROUP + group, *_keys("pending", "groups")], [TASK, group])

    def archive_one(self, task_id: str, now: int) -> Any:
        """Archive a task by hand."""
        keys = [task_key(task_id), *_keys("archived", "groups")]
        return self._run("archiveTaskCmd", keys, [task_id, now, now - OWN_SECONDS, _OWN_CAP, PREFIX, GROUP])

    def archive_all(self, source: str, now: int) -> Any:
        """Archive all tasks of `scheduled`, `retry` or `pending`."""
        limits = [now, now - OWN_SECONDS, _OWN_CAP]
        if source == "pending":
            return self._run("archiveAllPendingCmd", _keys(source, "archived"), [*limits, TASK])
        return self._run("archiveAllCmd", _keys(source, "archived"), [*limits, TASK, QUEUE])

    def archive_group(self, group: str, now: int) -> Any:
        """Archive all tasks of a group."""
        keys = [GROUP + group, *_keys("archived", "groups")]
        return self._run("archiveAllAggregatingCmd", keys, [now, now - OWN_SECONDS, _OWN_CAP, TASK, group])

    def delete_one(self, task_id: str) -> Any:
        """Delete a task."""
        return self._run("deleteTaskCmd", [task_key(task_id), *_keys("groups")], [task_id, PREFIX, GROUP])

    def delete_all(self, source: str) -> Any:
        """Delete all tasks of `pending`, `scheduled`, `retry`, `archived` or `completed`."""
        if source == "pending":
            return self._run("deleteAllPendingCmd", _keys(source), [TASK])
        return self._run("deleteAllCmd", _keys(source), [TASK, QUEUE])

    def delete_group(self, group: str) -> Any:
        """Delete all tasks of a group."""
        return self._run("deleteAllAggregatingCmd", [GROUP + group, *_keys("groups")], [TASK, group])

    # --- the readers behind GetQueueInfo and the lists ---------------------------------------------------------

    def stats(self) -> dict[str, int] | Failure:
        """Return the number of tasks by state, as a dashboard counts them."""
        indexes = ("pending", "active", "scheduled", "retry", "archived", "completed")
        counters = ("processed:day", "failed:day", "processed", "failed", "paused", "groups")
        reply = self._run("currentStatsCmd", _keys(*indexes, *counters), [TASK, GROUP])
        if isinstance(reply, Failure):
            return reply
        return {name: reply[2 * position + 1] for position, name in enumerate(indexes)}

    def memory_usage(self) -> Any:
        """Return the memory a queue takes; fails on a list or index that names a task which is not there."""
        keys = _keys("active", "pending", "scheduled", "retry", "archived", "completed", "groups")
        return self._run("memoryUsageCmd", keys, [TASK, 20, 5, GROUP])

    def listed(self, index: str) -> Any:
        """Return the messages in an index as a dashboard lists them."""
        reply = self._run("listZSetEntriesCmd", _keys(index), [0, 99, TASK])
        return reply if isinstance(reply, Failure) else reply[::3]

    def _run(self, name: str, keys: list[str], args: Sequence[str | bytes | int]) -> Any:
        text = self._texts[name]
        sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        try:
            try:
                return self._client.execute_command("EVALSHA", sha, len(keys), *keys, *args)
            except redis.exceptions.NoScriptError:
                return self._client.execute_command("EVAL", text, len(keys), *keys, *args)
        except redis.ResponseError as error:
            return Failure(str(error))


def _keys(*names: str) -> list[str]:
    return [PREFIX + name for name in names]


def _lock(unique: str | None) -> list[str]:
    return [] if unique is None else [lock_key(unique)]
