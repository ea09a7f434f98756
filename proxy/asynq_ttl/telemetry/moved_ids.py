"""Some of the task IDs that a bulk operation has moved, for its span: its reply says only how many there were.

They are searched for in Redis afterwards, on a connection of the sidecar's own, and only where the span is sampled. So
nothing is added to the command, and the answer is a sample: a task that has moved on since is not in it, and none is in
it that the operation did not move.

* Archived tasks are those whose score is the time of death that the command gave.
* Tasks that are run again are at the head of `pending`, and unlike enqueued ones they have no `pending_since`.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.asynq.keys import index_key, task_prefix, text_of
from asynq_ttl.events import Outcome
from asynq_ttl.telemetry.finished_span import MAX_IDS

# How many of the pending tasks are read.
_PAGE = 100
_SECONDS = 1.0
# Operations that are looked into at the same time; a span beyond them has no IDs.
_MAX_SEARCHES = 4


class OpenRedis(Protocol):
    """Opens a client of the real Redis, which connects when it is first used."""

    def __call__(self, database: int, *, max_connections: int, client_name: str) -> Redis:
        """Return a client.

        Args:
            database: the number of the database.
            max_connections: how many connections it may have.
            client_name: what Redis is told that they are called.
        """


class MovedIds:
    """Finds out which tasks bulk operations have moved.

    Args:
        open_redis: opens a client of the real Redis.
    """

    def __init__(self, open_redis: OpenRedis) -> None:
        self._open_redis = open_redis
        self._searches: set[asyncio.Task[None]] = set()

    def find(self, outcome: Outcome, answer: Callable[[Sequence[str]], None]) -> None:
        """Call `answer` with some of the IDs, at most a second later; with none where they cannot be found."""
        if len(self._searches) >= _MAX_SEARCHES:
            answer(())
            return
        search = asyncio.get_running_loop().create_task(self._find(outcome, answer))
        self._searches.add(search)
        search.add_done_callback(self._searches.discard)

    async def close(self) -> None:
        """Wait for the searches under way, which are over in a second."""
        if self._searches:
            await asyncio.wait(self._searches, timeout=_SECONDS)

    async def _find(self, outcome: Outcome, answer: Callable[[Sequence[str]], None]) -> None:
        found: Sequence[str] = ()
        client = self._open_redis(outcome.database, max_connections=1, client_name="asynq-ttl-bulk")
        try:
            async with asyncio.timeout(_SECONDS):
                found = await _moved(client, outcome)
        except (RedisError, OSError, TimeoutError):
            found = ()  # a span without IDs is better than none
        finally:
            answer(found)
            await client.aclose()


async def _moved(client: Redis, outcome: Outcome) -> Sequence[str]:
    decision = outcome.decision
    if decision.died_at is not None:
        score = decision.died_at
        key = index_key(decision.queue, "archived")
        members: Any = await client.zrangebyscore(key, score, score, start=0, num=MAX_IDS)
        return [text_of(member) for member in members]
    pending: Any = await client.lrange(index_key(decision.queue, "pending"), 0, _PAGE - 1)
    async with client.pipeline(transaction=False) as pipeline:
        for task_id in pending:
            pipeline.hmget(task_prefix(decision.queue) + task_id, "state", "pending_since")
        fields = await pipeline.execute()
    run = (
        text_of(one) for one, (state, since) in zip(pending, fields, strict=True) if state == b"pending" and not since
    )
    return list(islice(run, MAX_IDS))
