"""Enqueues whose task ID was taken, where a rule that is not enforced may say to replace the task that has it.

In shadow mode nothing is added to a command, so its reply does not say whether the ID belongs to a task that has ended.
So the task is looked at in Redis just after it, on a connection of the sidecar's own, as the wrapper would have done.

Invariants:

* What cannot be told is not told: where Redis does not answer in a second, and past so many that wait.
* Nothing in Redis is changed.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from redis.exceptions import RedisError

from asynq_ttl.events import Enqueue, Outcome
from asynq_ttl.lua.loader import load
from asynq_ttl.telemetry.bulk_operations import OpenRedis

_LOOK = load("shared/pick.prologue", "shared/hold.prologue", "shared/replaceable.prologue", "telemetry/would_replace")
_SECONDS = 1.0
# How many wait, and how many are looked at in one round trip.
_MAX_WAITING, _PAGE = 1_000, 100


class RefusedEnqueues:
    """Finds out which tasks would have been replaced.

    Args:
        open_redis: opens a client of the real Redis; None where nothing can be asked.
        tell: is told of each that would have been.
    """

    def __init__(self, open_redis: OpenRedis | None, tell: Callable[[Outcome], None]) -> None:
        self._open_redis = open_redis
        self._tell = tell
        self._waiting: deque[tuple[Enqueue, Outcome]] = deque()
        self._looking: asyncio.Task[None] | None = None

    def look(self, enqueue: Enqueue, outcome: Outcome) -> None:
        """Look at the task of an enqueue that was refused, in a moment."""
        if self._open_redis is None or len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting.append((enqueue, outcome))
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(self._open_redis))

    async def close(self) -> None:
        """Wait for the look under way; what waits behind it is not looked at."""
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=_SECONDS)

    async def _look(self, open_redis: OpenRedis) -> None:
        try:
            while self._waiting:
                page = [self._waiting.popleft()]
                database = page[0][1].database
                while self._waiting and len(page) < _PAGE and self._waiting[0][1].database == database:
                    page.append(self._waiting.popleft())
                await self._look_at(open_redis, database, page)
        finally:
            self._looking = None

    async def _look_at(self, open_redis: OpenRedis, database: int, page: list[tuple[Enqueue, Outcome]]) -> None:
        client = open_redis(database, max_connections=1, client_name="asynq-ttl-shadow")
        marks: list[object] = []
        try:
            async with asyncio.timeout(_SECONDS), client.pipeline(transaction=False) as pipeline:
                for enqueue, _ in page:
                    keys = [key for key in (enqueue.task_key, enqueue.lock_key) if key]
                    pipeline.eval(_LOOK, len(keys), *keys, enqueue.argument)
                marks = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError):
            pass  # what would have been is not known then
        finally:
            await asyncio.shield(client.aclose())
        for (enqueue, outcome), mark in zip(page, marks, strict=False):
            if isinstance(mark, int) and mark:
                self._tell(outcome._replace(decision=enqueue.replaced(mark)))
