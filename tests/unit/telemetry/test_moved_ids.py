"""Which tasks a bulk operation has moved; its span is made whether they can be found or not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from asynq_ttl.events import Outcome
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.telemetry import moved_ids
from asynq_ttl.telemetry.finished_span import MAX_IDS
from asynq_ttl.telemetry.moved_ids import MovedIds
from asynq_ttl.upstream.endpoint import Endpoint
from support.recorded import outcome
from support.servers import free_port
from support.waiting import LONG_SECONDS


async def test_without_redis_there_are_no_ids() -> None:
    """The answer comes all the same, and not more are asked about at a time than allowed."""
    ids = MovedIds(Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}/0")).redis)
    answers: list[Sequence[str]] = []
    for _ in range(moved_ids._MAX_SEARCHES + 3):
        ids.find(outcome(b":5", task_id="", died_at=1_700_000_000), answers.append)
    assert answers == [()] * 3
    async with asyncio.timeout(LONG_SECONDS):
        await ids.close()
    assert answers == [()] * (moved_ids._MAX_SEARCHES + 3)
    await ids.close()


class FakeRedis:
    """A database with one queue, `mail`; remembers for which database it was opened, and that it was closed."""

    def __init__(self) -> None:
        self.opened: list[int] = []
        self.closed = 0
        self.archived = {b"old": 1_600_000_000, b"now-1": 1_700_000_000, b"now-2": 1_700_000_000}
        self.pending: list[bytes] = []
        self.fields: dict[bytes, list[bytes | None]] = {}
        self._asked: list[bytes] = []

    def open(self, database: int, *, max_connections: int, client_name: str) -> Any:
        """Open a client."""
        assert (max_connections, client_name) == (1, "asynq-ttl-bulk")
        self.opened.append(database)
        return self

    async def zrangebyscore(self, key: bytes, least: int, most: int, *, start: int, num: int) -> list[bytes]:
        """Return archived tasks by their time of death."""
        assert key == b"asynq:{mail}:archived"
        return [name for name, score in self.archived.items() if least <= score <= most][start : start + num]

    async def lrange(self, key: bytes, first: int, last: int) -> list[bytes]:
        """Return pending tasks."""
        assert key == b"asynq:{mail}:pending"
        return self.pending[first : last + 1]

    @asynccontextmanager
    async def pipeline(self, *, transaction: bool) -> AsyncIterator["FakeRedis"]:
        """Take commands together."""
        assert not transaction
        yield self

    def hmget(self, key: bytes, *names: str) -> None:
        """Ask for fields of a task."""
        assert names == ("state", "pending_since")
        self._asked.append(key.removeprefix(b"asynq:{mail}:t:"))

    async def execute(self) -> list[list[bytes | None]]:
        """Return what was asked for."""
        return [self.fields[name] for name in self._asked]

    async def aclose(self) -> None:
        """Close the client."""
        self.closed += 1


async def found(redis: FakeRedis, bulk: Outcome) -> Sequence[str]:
    """Return the IDs that are found for a bulk operation."""
    ids, answers = MovedIds(redis.open), list[Sequence[str]]()
    ids.find(bulk, answers.append)
    assert answers == []
    await ids.close()
    (answer,) = answers
    assert redis.closed == 1
    return answer


async def test_archived_tasks_are_those_that_died_at_that_time() -> None:
    """In the database of the operation; nothing that was archived before."""
    redis = FakeRedis()
    bulk = outcome(b":2", task_id="", died_at=1_700_000_000)._replace(database=7)
    assert await found(redis, bulk) == ["now-1", "now-2"]
    assert redis.opened == [7]


async def test_no_more_ids_than_a_span_can_name() -> None:
    """A bulk operation may have moved any number of tasks."""
    redis = FakeRedis()
    redis.archived = {b"%d" % number: 1_700_000_000 for number in range(100)}
    assert len(await found(redis, outcome(b":100", task_id="", died_at=1_700_000_000))) == MAX_IDS
    redis = FakeRedis()
    redis.pending = [b"%d" % number for number in range(100)]
    redis.fields = {name: [b"pending", None] for name in redis.pending}
    assert len(await found(redis, outcome(b":100", task_id="", state="pending"))) == MAX_IDS


async def test_tasks_that_run_again_have_no_time_of_enqueueing() -> None:
    """Neither one that was enqueued nor one that has been taken since is among them."""
    redis = FakeRedis()
    redis.pending = [b"run", b"enqueued", b"taken", b"gone"]
    redis.fields = {
        b"run": [b"pending", None],
        b"enqueued": [b"pending", b"1700000000"],
        b"taken": [b"active", None],
        b"gone": [None, None],
    }
    assert await found(redis, outcome(b":1", task_id="", state="pending")) == ["run"]
