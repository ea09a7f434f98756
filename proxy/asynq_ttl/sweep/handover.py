"""Hands due tasks to a sink, and removes those it has taken.

Invariants:

* A task is removed only after the sink has taken it, and only if it is still due and still what the sink was given.
* Where the sink fails, the tasks stay. For 15 seconds they are not due; then they are handed over again.
* No key expires before its task has been handed over, as long as some sidecar sweeps. With a sink the grace is an hour
  at least (`Reach`), so a task is due an hour before its key expires. Whatever the sweeper looks at, due or not, gets
  the grace again where less than half of it is left (`sweep.lua`).
* The sink is asked at the end of a round, when all that is done, and for a few seconds only. So the patrol passes every
  task many times within half a grace, whatever the sink does.
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
from asynq_ttl.sweep.sink import SINK_TIMEOUT_SECONDS, Sink, SinkError

_log = logging.getLogger("asynq_ttl.handover")

# For how long a task is not due that the sink has not taken, or that is too large for any.
_HOLD_MS = 15_000
_HOLD_TOO_LARGE_MS = 3_600_000
# For how long a sink that has failed is not asked again.
_PAUSE_SECONDS = 10.0
# For how long a sink is given new pages in one round. The rest of what is due waits for the next round.
_ROUND_SECONDS = 5.0
# The longest time that handing over can take in one round, with a sink that does not answer.
LONGEST_HANDOVER_SECONDS = _ROUND_SECONDS + SINK_TIMEOUT_SECONDS + 1
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
        self._until = 0.0
        self._name = name
        self._read = load("shared/task.prologue", "shared/read_tasks")
        self._remove = load("shared/task.prologue", "sweep/remove_due")

    def begin_round(self) -> None:
        """Give the sink its time anew."""
        self._until = time.monotonic() + _ROUND_SECONDS

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
        while ids and time.monotonic() < self._until:
            if self._paused:
                told = [part for task_id in ids for part in (task_id, b"")]
                await self._settle(client, queue, state, (grace_ms, _HOLD_MS), told)
                break
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
        gone = await self._settle(client, queue, state, (grace_ms, hold_ms), page.told)
        if page.too_large:
            count = len(page.too_large) // 2
            _log.warning("queue %s: %s due tasks are too large for a sink and kept for an hour", queue, count)
            await self._settle(client, queue, state, (grace_ms, _HOLD_TOO_LARGE_MS), page.too_large)
        return gone

    async def _settle(
        self, client: "Redis", queue: str, state: str, times: tuple[int, int], told: list[bytes]
    ) -> list[bytes]:
        """Remove tasks, or hold them; return the IDs of those that are gone.

        Args:
            client, queue, state: where they are.
            times: milliseconds of grace, and for how long they are not due; 0 to remove them.
            told: ID and digest of each.
        """
        remove: Any = client.register_script(self._remove)
        answer: Any = await remove(keys=[index_key(queue, state)], args=[queue_prefix(queue), state, *times, *told])
        return list(answer)

    @property
    def _paused(self) -> bool:
        return time.monotonic() < self._not_before

    async def _take(self, lines: list[Json]) -> bool:
        """Ask the sink to take lines; say whether it has."""
        if not lines:
            return True
        try:
            await self._sink.take(lines)
        except SinkError as error:
            self._not_before = time.monotonic() + _PAUSE_SECONDS
            _log.warning("the sink %s failed, due tasks are kept and sent again in 15 seconds: %s", self._name, error)
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
