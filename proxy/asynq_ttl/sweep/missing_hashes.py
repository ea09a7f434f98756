"""Drops the entries of an index that have no hash, if they still have none a moment later.

Invariant: where the hash has gone to another node of a cluster meanwhile, the entry stays; see `part`.
"""

import asyncio
from typing import Any

from redis.asyncio import Redis

from asynq_ttl.asynq.keys import task_prefix
from asynq_ttl.lua.loader import load
from asynq_ttl.sweep.part import Part

# An entry without a hash is dropped if it still has none after this time.
_SECOND_LOOK_SECONDS = 0.05


class MissingHashes:
    """Drops entries without a hash.

    Args:
        part: the queues that are swept.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._script = load("sweep/sweep_ghosts")

    async def drop(self, client: Redis, queue: str, key: bytes, missing: list[bytes]) -> int:
        """Drop the entries that still have no hash a moment later; return how many.

        Args:
            client: where the queue is.
            queue: its name.
            key: that of the index.
            missing: the IDs whose hash was not there.
        """
        await asyncio.sleep(_SECOND_LOOK_SECONDS)
        if not await self._part.is_settled(client, queue):
            return 0
        script: Any = client.register_script(self._script)
        return int(await script(keys=[key], args=[task_prefix(queue), *missing]))
