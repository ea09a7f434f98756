"""Hands due tasks to a sink, and removes those it has taken.

Invariants:

* A task is removed only after the sink has taken it, and only if it is still due and still what the sink was given.
* Where the sink fails, the tasks stay: their keys get another hour, in which they are not due. After it they are handed
  over again.
"""

import logging
import time
from base64 import b64encode
from typing import Any, NamedTuple

from redis.asyncio import Redis

from asynq_ttl.asynq.keys import index_key, queue_prefix, text_of
from asynq_ttl.asynq.task import Task, task_of_row
from asynq_ttl.asynq.task_json import Json, task_line
from asynq_ttl.lua.loader import load
from asynq_ttl.sweep.sink import Sink, SinkError

_log = logging.getLogger("asynq_ttl.handover")

# How much longer a key lives whose task the sink has not taken.
_HOLD_MS = 3_600_000
# For how long a sink that has failed is not asked again.
_PAUSE_SECONDS = 10.0
# The most tasks, and about the most bytes, that are handed over at once.
_PAGE_TASKS = 100
_PAGE_BYTES = 1 << 19


class _Page(NamedTuple):
    """Tasks as a sink gets them, and what `remove_due` needs of each: ID and digest, one after the other."""

    lines: list[Json]
    told: list[bytes]
    too_large: list[bytes]


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

    async def hand_over(self, client: "Redis", queue: str, state: str, ids: list[bytes], grace_ms: int) -> list[bytes]:
        """Hand over some tasks that were due a moment ago, and remove them; return the IDs of those that are gone.

        Args:
            client: a connection to their database.
            queue: the queue's name.
            state: the state they are in.
            ids: their IDs.
            grace_ms: a task is due if its key has at most this many milliseconds to live.

        Raises:
            RedisError: Redis refused something or cannot be reached; no task is gone that the sink has not taken.
        """
        gone: list[bytes] = []
        while ids:
            rows = await self._rows(client, queue, state, ids[:_PAGE_TASKS])
            gone += await self._hand_over_page(client, queue, state, list(zip(ids, rows, strict=False)), grace_ms)
            ids = ids[len(rows) :]
        return gone

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    async def _rows(self, client: "Redis", queue: str, state: str, ids: list[bytes]) -> list[list[Any]]:
        """Read tasks whole; return a row for each of the first ones, for as many as fit into a page."""
        read: Any = client.register_script(self._read)
        rows: list[list[Any]] = await read(
            keys=[index_key(queue, state)], args=[queue_prefix(queue), _PAGE_BYTES, "whole", *ids]
        )
        return rows

    async def _hand_over_page(
        self, client: "Redis", queue: str, state: str, rows: list[tuple[bytes, list[Any]]], grace_ms: int
    ) -> list[bytes]:
        """Hand over a page of tasks, given as IDs and rows; return the IDs of those that are gone."""
        page = _page_of(queue, state, rows)
        hold_ms = 0 if await self._take(page.lines) else _HOLD_MS
        remove: Any = client.register_script(self._remove)
        keys, about = [index_key(queue, state)], [queue_prefix(queue), state, grace_ms]
        gone: list[bytes] = list(await remove(keys=keys, args=[*about, hold_ms, *page.told]))
        if page.too_large:
            count = len(page.too_large) // 2
            _log.warning("queue %s: %s due tasks are too large for a sink and kept for an hour", queue, count)
            await remove(keys=keys, args=[*about, _HOLD_MS, *page.too_large])
        return gone

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


def _page_of(queue: str, state: str, rows: list[tuple[bytes, list[Any]]]) -> _Page:
    """Return the tasks of some rows that are still in their state."""
    page = _Page([], [], [])
    for task_id, row in rows:
        task = task_of_row(queue, task_id, row)
        if task.state != state:
            continue
        if task.record is None and not (row[1] or task.size == 0):
            page.too_large.extend((task.id, task.digest))
            continue
        page.lines.append(task_line(task, task.record, text=False) if task.record else _raw_line(task, row[1] or b""))
        page.told.extend((task.id, task.digest))
    return page


def _raw_line(task: Task, message: bytes) -> Json:
    """Return a task whose message cannot be decoded."""
    encoded = b64encode(message).decode()
    return {"queue": task.queue, "id": text_of(task.id), "state": task.state, "message_base64": encoded}
