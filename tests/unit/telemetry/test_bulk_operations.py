"""What became of the tasks of a bulk operation; it is told whether they can be found or not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asynq_ttl.events import Outcome
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.telemetry import bulk_operations
from asynq_ttl.telemetry.bulk_operations import BulkOperations
from asynq_ttl.telemetry.finished_span import MAX_IDS
from asynq_ttl.upstream.endpoint import Endpoint
from support.recorded import outcome
from support.servers import free_port
from support.waiting import LONG_SECONDS

Answer = tuple[Outcome, Sequence[str]]
DIED_AT = 1_700_000_000


def archived(moved: int, **changes: object) -> Outcome:
    """Return the outcome of archiving so many tasks at once."""
    return outcome(b":%d" % moved, task_id="", died_at=DIED_AT, **changes)


def run_again(moved: int, **changes: object) -> Outcome:
    """Return the outcome of running so many tasks at once."""
    return outcome(b":%d" % moved, operation="run", task_id="", state="pending", **changes)


async def test_without_redis_there_are_no_ids() -> None:
    """The answer comes all the same, and not more are asked about at a time than allowed."""
    bulk = BulkOperations(Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}/0")).redis, 10)
    answers: list[Answer] = []
    for _ in range(bulk_operations._MAX_SEARCHES + 3):
        bulk.find(archived(5), lambda *answer: answers.append(answer))
    assert answers == [(archived(5), ())] * 3
    async with asyncio.timeout(LONG_SECONDS):
        await bulk.close()
    assert answers == [(archived(5), ())] * (bulk_operations._MAX_SEARCHES + 3)
    assert not bulk.tasks
    await bulk.close()


class FakeRedis:
    """A database with one queue, `mail`; remembers for which database it was opened, and that it was closed."""

    def __init__(self, *pages: list[object]) -> None:
        self.opened: list[int] = []
        self.closed = 0
        self.pages = list(pages)
        self.looked_at: list[int] = []
        self.pending: list[bytes] = []
        self.fields: dict[bytes, list[bytes | None]] = {}
        self._asked: list[bytes] = []

    def open(self, database: int, *, max_connections: int, client_name: str) -> Any:
        """Open a client."""
        assert (max_connections, client_name) == (1, "asynq-ttl-bulk")
        self.opened.append(database)
        return self

    async def eval(self, _text: str, keys: int, key: bytes, prefix: bytes, died_at: int, *more: int) -> list[object]:
        """Return a page of tasks that were archived."""
        assert (keys, key, prefix, died_at) == (1, b"asynq:{mail}:archived", b"asynq:{mail}:t:", DIED_AT)
        self.looked_at.append(more[0])
        return self.pages.pop(0)

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


async def found(redis: FakeRedis, told: Outcome, most: int = 10) -> tuple[BulkOperations, Outcome, Sequence[str]]:
    """Return what is found out about a bulk operation."""
    bulk, answers = BulkOperations(redis.open, most), list[Answer]()
    bulk.find(told, lambda *answer: answers.append(answer))
    assert answers == []
    await bulk.close()
    ((answer, ids),) = answers
    assert redis.closed == 1
    return bulk, answer, ids


async def test_archived_tasks_are_counted_by_what_they_got(caplog: pytest.LogCaptureFixture) -> None:
    """In the database of the operation, page by page; what is missing is gone."""
    caplog.set_level("INFO")
    redis = FakeRedis([1000, 600, 400, [b"a", b"b"]], [5, 2, 1, []])
    bulk, told, ids = await found(redis, archived(1010)._replace(database=7))
    assert (redis.opened, redis.looked_at, ids) == ([7], [0, 1000], ["a", "b"])
    assert told.actions == (("ttl", 602), ("none", 401), ("gone", 7))
    assert bulk.tasks == {
        ("mail", "archived", "ttl"): 602,
        ("mail", "archived", "none"): 401,
        ("mail", "archived", "gone"): 7,
    }
    assert caplog.messages == ["by hand, archive in queue mail: 1010 tasks (602 ttl, 401 none, 7 gone)"]


async def test_tasks_that_cannot_be_told_apart_are_not_told() -> None:
    """More died in that second than were moved, so some are others'."""
    redis = FakeRedis([1000, 900, 100, [b"a"]], [1000, 1, 0, []])
    bulk, told, ids = await found(redis, archived(999))
    assert redis.looked_at == [0]
    assert (told, ids, bulk.tasks) == (archived(999), (), {})


async def test_in_shadow_mode_nothing_was_done() -> None:
    """The tasks are named, and none got anything."""
    bulk, told, ids = await found(FakeRedis([2, 0, 2, [b"a"]]), archived(2, enforced=False))
    assert (told.actions, ids, bulk.tasks) == ((), ["a"], {})
    bulk, told, _ = await found(FakeRedis(), run_again(2, enforced=False))
    assert (told.actions, bulk.tasks) == ((), {})


async def test_what_is_run_or_deleted_is_said_by_the_reply() -> None:
    """Also where nothing can be asked. Labels are bounded."""
    bulk, answers = BulkOperations(None, 1), list[Answer]()
    for told in (
        run_again(4),
        outcome(b":3", operation="delete", task_id="", state="deleted"),
        run_again(2, queue="other one"),
        run_again(1, queue="third"),
    ):
        bulk.find(told, lambda *answer: answers.append(answer))
    assert [(told.actions, ids) for told, ids in answers] == [
        ((("persist", 4),), ()),
        ((("delete", 3),), ()),
        ((("persist", 2),), ()),
        ((("persist", 1),), ()),
    ]
    assert bulk.tasks == {
        ("mail", "pending", "persist"): 4,
        ("other", "deleted", "delete"): 3,
        ("other", "pending", "persist"): 3,
    }


async def test_no_more_ids_than_a_span_can_name() -> None:
    """A bulk operation may have moved any number of tasks."""
    redis = FakeRedis()
    redis.pending = [b"%d" % number for number in range(100)]
    redis.fields = {name: [b"pending", None] for name in redis.pending}
    _, told, ids = await found(redis, run_again(100))
    assert len(ids) == MAX_IDS
    assert told.actions == (("persist", 100),)


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
    assert (await found(redis, run_again(1)))[2] == ["run"]
