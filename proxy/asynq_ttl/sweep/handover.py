"""Hands due tasks to a sink, and removes those it has taken.

Invariants:

* A task is removed only after the sink has taken it, and only if it is still due, or still one too many, and still what
  the sink was given.
* Where the sink fails, the tasks stay. For 15 seconds they are not due; then they are handed over again.
* No key expires before its task has been handed over, as long as some sidecar sweeps. With a sink the grace is an hour
  at least (`Reach`), so a task is due an hour before its key expires. Whatever the sweeper looks at, due or not, gets
  the grace again where less than half of it is left (`sweep.lua`).
* An archive keeps its newest tasks, up to `max` or Asynq's own limit; what is over it goes at the end of a round.
* The sink is asked at the end of a round, when all that is done, and for a few seconds only. So the patrol passes every
  task many times within half a grace, whatever the sink does.
* It is asked by one at a time: each master of a cluster has a sweeper of its own. Who does not get its turn within its
  seconds leaves its tasks to its next round.
"""

import asyncio
import logging
import time
from base64 import b64encode
from typing import Any, NamedTuple

from redis.asyncio import Redis

from asynq_ttl.asynq.keys import index_key, queue_prefix, task_prefix, text_of
from asynq_ttl.asynq.task import Task, task_of_row
from asynq_ttl.asynq.task_json import Json, task_line
from asynq_ttl.lua.loader import load
from asynq_ttl.policy.archive_limits import HandoverCap
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


class Batch(NamedTuple):
    """Tasks of one index that are to be handed over.

    Attributes:
        queue: the queue's name.
        state: the state they are in.
        ids: their IDs.
        grace_ms: each is due if its key has at most this many milliseconds to live.
        most: where it is given, they go whatever their keys have left, but only while the index has more entries.
    """

    queue: str
    state: str
    ids: list[bytes]
    grace_ms: int
    most: int | None = None


class Handover:
    """Between the sweeper and a sink.

    Args:
        sink: who takes the tasks.
        name: what it is called, without any secret.
    """

    def __init__(self, sink: Sink, name: str) -> None:
        self.failures = 0
        """How often the sink has failed."""
        self.problem = ""
        """Why it does not take tasks, with its name; empty where it took the latest ones."""
        self._sink = sink
        self._not_before = 0.0
        self._turn = asyncio.Lock()
        self.name = name
        """What the sink is called."""
        self._read = load("shared/task.prologue", "shared/read_tasks")
        self._remove = load("shared/task.prologue", "sweep/remove_due")
        self._over_cap = load("sweep/over_cap")

    def begin_round(self) -> float:
        """Return until when the sink is given new pages in a round that begins now, in seconds of `time.monotonic`."""
        return time.monotonic() + _ROUND_SECONDS

    async def over_cap(self, client: "Redis", queue: str, cap: HandoverCap) -> list[bytes]:
        """Return the IDs of the oldest tasks of an archive, as many as it has too many.

        Args:
            client: a connection to its database.
            queue: the queue's name.
            cap: how many it keeps.
        """
        find: Any = client.register_script(self._over_cap)
        spare = "1" if cap.spare_untimed else ""
        return list(await find(keys=[index_key(queue, "archived")], args=[task_prefix(queue), cap.most, spare]))

    async def hand_over(self, client: "Redis", batch: Batch, until: float) -> list[bytes]:
        """Hand over some tasks, and remove them; return the IDs of those that are gone.

        Args:
            client: a connection to their database.
            batch: the tasks.
            until: what `begin_round` has returned.

        Raises:
            RedisError: Redis refused something or cannot be reached; no task is gone that the sink has not taken.
        """
        gone: list[bytes] = []
        ids = batch.ids
        while ids and time.monotonic() < until:
            if self._paused:
                await self._settle(client, batch, _HOLD_MS, [part for task_id in ids for part in (task_id, b"")])
                break
            rows = await self._rows(client, batch, ids[:_PAGE_TASKS])
            gone += await self._hand_over_page(client, batch, list(zip(ids, rows, strict=False)), until)
            ids = ids[len(rows) :]
        return gone

    def failed(self, reason: str) -> None:
        """Take note that the sink has failed, and leave it alone for a moment."""
        self._not_before = time.monotonic() + _PAUSE_SECONDS
        self.failures += 1
        self.problem = f"the sink {self.name} fails: {reason}"
        _log.warning("the sink %s failed, due tasks are kept and sent again in 15 seconds: %s", self.name, reason)

    async def close(self) -> None:
        """Close the sink."""
        await self._sink.close()

    async def _rows(self, client: "Redis", batch: Batch, ids: list[bytes]) -> list[list[Any]]:
        """Read tasks whole; return a row for each of the first ones, for as many as fit into a page."""
        read: Any = client.register_script(self._read)
        keys, args = [index_key(batch.queue, batch.state)], [queue_prefix(batch.queue), _PAGE_BYTES, "whole", *ids]
        rows: list[list[Any]] = await read(keys=keys, args=args)
        return rows

    async def _hand_over_page(
        self, client: "Redis", batch: Batch, rows: list[tuple[bytes, list[Any]]], until: float
    ) -> list[bytes]:
        """Hand over a page of tasks, given as IDs and rows; return the IDs of those that are gone."""
        page = _page_of(batch.queue, batch.state, rows)
        taken = await self._take_in_turn(page.lines, until)
        if taken is None:
            return []
        gone = await self._settle(client, batch, 0 if taken else _HOLD_MS, page.told)
        if page.too_large and batch.most is None:
            count = len(page.too_large) // 2
            _log.warning("queue %s: %s due tasks are too large for a sink and kept for an hour", batch.queue, count)
            await self._settle(client, batch, _HOLD_TOO_LARGE_MS, page.too_large)
        return gone

    async def _settle(self, client: "Redis", batch: Batch, hold_ms: int, told: list[bytes]) -> list[bytes]:
        """Remove tasks, or hold them; return the IDs of those that are gone.

        Args:
            client, batch: where they are.
            hold_ms: for how long they are not due; 0 to remove them. What is over a cap is not held.
            told: ID and digest of each.
        """
        if hold_ms and batch.most is not None:
            return []
        remove: Any = client.register_script(self._remove)
        about = queue_prefix(batch.queue), batch.state, batch.grace_ms, hold_ms
        most = "" if batch.most is None else batch.most
        return list(await remove(keys=[index_key(batch.queue, batch.state)], args=[*about, most, *told]))

    @property
    def _paused(self) -> bool:
        return time.monotonic() < self._not_before

    async def _take_in_turn(self, lines: list[Json], until: float) -> bool | None:
        """Ask the sink to take lines; say whether it has, or None where others have asked it all the time."""
        try:
            async with asyncio.timeout(max(until - time.monotonic(), 0)):
                await self._turn.acquire()
        except TimeoutError:
            return None
        try:
            return not self._paused and await self._take(lines)
        finally:
            self._turn.release()

    async def _take(self, lines: list[Json]) -> bool:
        """Ask the sink to take lines; say whether it has."""
        if not lines:
            return True
        try:
            await self._sink.take(lines)
        except SinkError as error:
            self.failed(str(error))
            return False
        if self.problem:
            self.problem = ""
            _log.info("the sink %s takes tasks again", self.name)
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
