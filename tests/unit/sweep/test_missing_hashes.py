"""Entries without a hash: dropped at a second look, unless it may have gone elsewhere meanwhile."""

from typing import cast

import pytest
from redis.asyncio import Redis

from asynq_ttl.sweep.missing_hashes import MissingHashes
from asynq_ttl.sweep.part import Part
from support.scripted_redis import Asked, ScriptedRedis


class Moving(Part):
    """A part, of which a queue may be on its way."""

    def __init__(self, *, settled: bool) -> None:
        self.settled = settled

    async def is_settled(self, client: Redis, queue: str) -> bool:
        """Say so."""
        assert queue == "mail"
        return self.settled


@pytest.mark.parametrize(("settled", "dropped"), [(True, 2), (False, 0)])
async def test_what_is_on_its_way_is_not_dropped(settled: bool, dropped: int) -> None:
    """Its hash may be there already."""
    asked: list[Asked] = []
    server = ScriptedRedis(set(), asked, sweep_ghosts=lambda _keys, args: len(args) - 1)
    missing = MissingHashes(Moving(settled=settled))
    key = b"asynq:{mail}:completed"
    assert await missing.drop(cast("Redis", server), "mail", key, [b"a", b"b"]) == dropped
    assert asked == [Asked("sweep_ghosts", [key], [b"asynq:{mail}:t:", b"a", b"b"])] * settled
