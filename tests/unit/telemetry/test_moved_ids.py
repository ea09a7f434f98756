"""A span of a bulk operation is made whether its tasks can be found or not."""

import asyncio
from collections.abc import Sequence

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.telemetry import moved_ids
from asynq_ttl.telemetry.moved_ids import MovedIds
from asynq_ttl.upstream.endpoint import Endpoint
from support.recorded import outcome
from support.servers import free_port


async def test_without_redis_there_are_no_ids() -> None:
    """The answer comes all the same, and not more are asked about at a time than allowed."""
    ids = MovedIds(Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}/0")).redis)
    answers: list[Sequence[str]] = []
    for _ in range(moved_ids._MAX_SEARCHES + 3):
        ids.find(outcome(b":5", task_id="", died_at=1_700_000_000), answers.append)
    assert answers == [()] * 3
    async with asyncio.timeout(5):
        await ids.close()
    assert answers == [()] * (moved_ids._MAX_SEARCHES + 3)
    await ids.close()
