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
from typing import NamedTuple

from redis.exceptions import RedisError

from asynq_ttl.events import Enqueue, Outcome
from asynq_ttl.lua.loader import load
from asynq_ttl.telemetry.bulk_operations import OpenRedis

_LOOK = load("shared/pick.prologue", "shared/hold.prologue", "shared/replaceable.prologue", "telemetry/would_replace")
_SECONDS = 1.0
# How many wait, and how many are looked at in one round trip.
_MAX_WAITING, _PAGE = 1_000, 100


class _Refused(NamedTuple):
    """An enqueue that was refused, whom to tell if it would have replaced a task, and where that task is."""

    enqueue: Enqueue
    outcome: Outcome
    tell: Callable[[Outcome], None]
    open_redis: OpenRedis

    def is_beside(self, other: "_Refused") -> bool:
        """Say whether both can be looked at in one round trip."""
        return self.outcome.database == other.outcome.database and self.open_redis == other.open_redis


class RefusedEnqueues:
    """Finds out which tasks would have been replaced.

    Args:
        open_redis: opens a client of the real Redis; None where nothing can be asked.
    """

    def __init__(self, open_redis: OpenRedis | None) -> None:
        self._open_redis = open_redis
        self._waiting: deque[_Refused] = deque()
        self._looking: asyncio.Task[None] | None = None

    def look(
        self,
        enqueue: Enqueue,
        outcome: Outcome,
        tell: Callable[[Outcome], None],
        open_redis: OpenRedis | None = None,
    ) -> None:
        """Look at the task of an enqueue that was refused, in a moment.

        Args:
            enqueue: what was to be enqueued.
            outcome: its open decision, and the reply.
            tell: is told if it would have been replaced.
            open_redis: opens a client of the node where the task is; None without a cluster.
        """
        open_redis = open_redis or self._open_redis
        if open_redis is None or len(self._waiting) >= _MAX_WAITING:
            return
        self._waiting.append(_Refused(enqueue, outcome, tell, open_redis))
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look())

    async def close(self) -> None:
        """Wait for the look under way; what waits behind it is not looked at."""
        if self._looking is not None:
            await asyncio.wait([self._looking], timeout=_SECONDS)

    async def _look(self) -> None:
        try:
            while self._waiting:
                page = [self._waiting.popleft()]
                while self._waiting and len(page) < _PAGE and self._waiting[0].is_beside(page[0]):
                    page.append(self._waiting.popleft())
                await _look_at(page)
        finally:
            self._looking = None


async def _look_at(page: list[_Refused]) -> None:
    client = page[0].open_redis(page[0].outcome.database, max_connections=1, client_name="asynq-ttl-shadow")
    marks: list[object] = []
    try:
        async with asyncio.timeout(_SECONDS), client.pipeline(transaction=False) as pipeline:
            for enqueue, *_ in page:
                keys = [key for key in (enqueue.task_key, enqueue.lock_key) if key]
                pipeline.eval(_LOOK, len(keys), *keys, enqueue.argument)
            marks = await pipeline.execute(raise_on_error=False)
    except (RedisError, OSError, TimeoutError):
        pass  # what would have been is not known then
    finally:
        await asyncio.shield(client.aclose())
    for refused, mark in zip(page, marks, strict=False):
        if isinstance(mark, int) and mark:
            refused.tell(refused.outcome._replace(decision=refused.enqueue.replaced(mark)))
