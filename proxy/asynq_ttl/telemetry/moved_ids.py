"""Some of the task IDs that a bulk operation has moved, for its span: its reply says only how many there were.

They are looked for in Redis afterwards, on a connection of the sidecar's own, and only where the span is sampled. So
nothing is added to the command, and the answer is a sample: a task that has moved on since is not in it, and none is in
it that the operation did not move.

* Archived tasks are those whose score is the time of death that the command gave.
* Tasks that are run again are at the head of `pending`, and unlike enqueued ones they have no `pending_since`.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.asynq.keys import index_key, task_prefix, text_of
from asynq_ttl.events import Outcome
from asynq_ttl.upstream.endpoint import Endpoint

MAX_IDS = 20
# As many of the pending tasks are looked at.
_PAGE = 100
_SECONDS = 1.0
# Operations that are asked about at the same time; a span beyond them has no IDs.
_MAX_ASKED = 4


class BulkIds:
    """Finds out which tasks bulk operations have moved.

    Args:
        endpoint: the Redis.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._asking: set[asyncio.Task[None]] = set()

    def ask(self, outcome: Outcome, answer: Callable[[Sequence[str]], None]) -> None:
        """Call `answer` with some of the IDs, at most a second later; with none where they cannot be found."""
        if len(self._asking) >= _MAX_ASKED:
            answer(())
            return
        asking = asyncio.get_running_loop().create_task(self._ask(outcome, answer))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def close(self) -> None:
        """Wait for the answers that are still to come."""
        if self._asking:
            await asyncio.wait(self._asking, timeout=_SECONDS)

    async def _ask(self, outcome: Outcome, answer: Callable[[Sequence[str]], None]) -> None:
        found: Sequence[str] = ()
        client = self._endpoint.redis(outcome.database, max_connections=1, client_name="asynq-ttl-bulk")
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
