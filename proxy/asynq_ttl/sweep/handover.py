"""Hands due tasks to a sink, and removes those it has taken.

Invariants:

* A task is removed only after the sink has taken it, and only if it is still due and still what the sink was given.
* Where the sink fails, the tasks stay: their keys get another hour, in which they are not due; then it is tried again.
"""

import logging
import time
from base64 import b64encode
from typing import Any

from redis.asyncio import Redis

from asynq_ttl.asynq.keys import index_key, queue_prefix, text_of
from asynq_ttl.asynq.task import Task, task_of_row
from asynq_ttl.asynq.task_json import Json, task_line
from asynq_ttl.lua.loader import load
from asynq_ttl.sweep.sink import Sink, SinkError

_log = logging.getLogger("asynq_ttl.handover")

_HOLD_MS = 3_600_000
_PAUSE_SECONDS = 10.0
_PAGE_TASKS = 100
_PAGE_BYTES = 1 << 19


class Handover:
    """Between the sweeper and a sink.

    Args:
        sink: who takes the tasks.
        name: what it is called in the log.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self._sink = sink
        self._not_before = 0.0
        self._name = name
        self._read = load("shared/task.prologue", "shared/read_tasks")
        self._remove = load("shared/task.prologue", "sweep/remove_due")

    async def settle(self, client: "Redis", queue: str, state: str, ids: list[bytes], grace_ms: int) -> list[bytes]:
        """Hand over some tasks that were due a moment ago, and remove them; return the IDs of those that are gone.

        Args:
            client: a connection to their database.
            queue: the queue's name.
            state: the state they are in.
            ids: their IDs.
            grace_ms: a task is due if its key has no more milliseconds to live.
        """
        gone: list[bytes] = []
        while ids:
            taken, gone_now = await self._page(client, queue, state, ids[:_PAGE_TASKS], grace_ms)
            gone += gone_now
            ids = ids[taken:]
        return gone

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    async def _page(
        self, client: "Redis", queue: str, state: str, ids: list[bytes], grace_ms: int
    ) -> tuple[int, list[bytes]]:
        """Settle the first of some tasks; return how many were dealt with, and which are gone."""
        prefix = queue_prefix(queue)
        keys = [index_key(queue, state)]
        read: Any = client.register_script(self._read)
        rows = await read(keys=keys, args=[prefix, _PAGE_BYTES, "whole", *ids])
        lines: list[Json] = []
        told: list[bytes] = []
        unread: list[bytes] = []
        for task_id, row in zip(ids, rows, strict=False):
            task = task_of_row(queue, task_id, row)
            if task.state != state:
                continue
            if task.record is None and not (row[1] or task.size == 0):
                # Too large to be read.
                unread += [task.id, task.digest]
                continue
            lines.append(task_line(task, task.record, text=False) if task.record else _raw_line(task, row[1] or b""))
            told += [task.id, task.digest]
        hold = 0 if await self._take(lines) else _HOLD_MS
        remove: Any = client.register_script(self._remove)
        gone = await remove(keys=keys, args=[prefix, state, grace_ms, hold, *told])
        if unread:
            _log.warning(
                "queue %s: %s due tasks are too large for a sink and kept for an hour", queue, len(unread) // 2
            )
            await remove(keys=keys, args=[prefix, state, grace_ms, _HOLD_MS, *unread])
        return len(rows), list(gone)

    async def _take(self, lines: list[Json]) -> bool:
        """Ask the sink to take lines; for a moment after a failure it is not asked again."""
        if not lines:
            return True
        if time.monotonic() < self._not_before:
            return False
        try:
            await self._sink.take(lines)
        except SinkError as error:
            self._not_before = time.monotonic() + _PAUSE_SECONDS
            _log.warning("the sink %s failed, due tasks are kept for another hour: %s", self._name, error)
            return False
        return True


def _raw_line(task: Task, message: bytes) -> Json:
    """Return a task whose message cannot be decoded."""
    encoded = b64encode(message).decode()
    return {"queue": task.queue, "id": text_of(task.id), "state": task.state, "message_base64": encoded}
