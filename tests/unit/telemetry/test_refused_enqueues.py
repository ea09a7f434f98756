"""What would have been replaced in shadow mode; it is told where Redis says so in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.events import Action, Enqueue, Outcome
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.telemetry import refused_enqueues
from asynq_ttl.telemetry.recorder import Telemetry
from asynq_ttl.telemetry.refused_enqueues import RefusedEnqueues
from asynq_ttl.upstream.endpoint import Endpoint
from support.recorded import UPSTREAM, decision, outcome
from support.servers import free_port

OPEN = decision(
    operation="replace", action=Action.REPLACED, state="", rule="", ttl_seconds=None, own_seconds=None, enforced=False
)
ENQUEUE = Enqueue(OPEN, (("archived", "mail"), ("completed", "done")), b"task", b"lock", b"rules")
REFUSED = outcome(b":0")._replace(decision=OPEN)


class FakeRedis:
    """A database that says what each task would have been replaced by."""

    def __init__(self, *marks: object) -> None:
        self.marks = list(marks)
        self.opened: list[int] = []
        self.closed = 0
        self.asked: list[tuple[object, ...]] = []

    def open(self, database: int, *, max_connections: int, client_name: str) -> Any:
        """Open a client."""
        assert (max_connections, client_name) == (1, "asynq-ttl-shadow")
        self.opened.append(database)
        return self

    @asynccontextmanager
    async def pipeline(self, *, transaction: bool) -> AsyncIterator["FakeRedis"]:
        """Take commands together."""
        assert not transaction
        yield self

    def eval(self, text: str, *words: object) -> None:
        """Ask about a task."""
        assert "asynq_ttl_replaceable(KEYS[1], KEYS[2]" in text
        self.asked.append(words)

    async def execute(self, *, raise_on_error: bool) -> list[object]:
        """Return what was asked for."""
        assert not raise_on_error
        asked, self.asked = self.asked, []
        return [self.marks.pop(0) for _ in asked]

    async def aclose(self) -> None:
        """Close the client."""
        self.closed += 1


async def test_what_would_have_been_replaced_is_told() -> None:
    """With the rule that says so; nothing of what would have stayed, or could not be looked at."""
    redis, told = FakeRedis(2, 0, 3, ResponseError("MOVED 1 h:1"), 2), list[Outcome]()
    refused = RefusedEnqueues(redis.open)
    for database in (0, 0, 0, 0, 7):
        refused.look(ENQUEUE, REFUSED._replace(database=database), told.append)
    await refused.close()
    assert (redis.opened, redis.closed) == ([0, 7], 2)
    assert [(each.database, each.decision.state, each.decision.rule) for each in told] == [
        (0, "archived", "mail"),
        (0, "completed", "done"),
        (7, "archived", "mail"),
    ]
    assert not any(each.decision.enforced for each in told)
    await refused.close()


async def test_a_lock_is_asked_about_where_there_is_one() -> None:
    """As the wrapper would."""
    redis = FakeRedis(0, 0)
    asked = redis.asked
    refused = RefusedEnqueues(redis.open)
    refused.look(ENQUEUE, REFUSED, list[Outcome]().append)
    refused.look(ENQUEUE._replace(lock_key=b""), REFUSED, list[Outcome]().append)
    await refused.close()
    assert asked == [(2, b"task", b"lock", b"rules"), (1, b"task", b"rules")]


async def test_many_are_looked_at_together_and_no_more_than_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client can be refused as often as it likes."""
    monkeypatch.setattr(refused_enqueues, "_MAX_WAITING", 5)
    monkeypatch.setattr(refused_enqueues, "_PAGE", 3)
    redis, told = FakeRedis(*[2] * 5), list[Outcome]()
    refused = RefusedEnqueues(redis.open)
    for _ in range(9):
        refused.look(ENQUEUE, REFUSED, told.append)
    await refused.close()
    assert (len(told), redis.closed) == (5, 2)


async def test_without_redis_nothing_is_told() -> None:
    """Nor where it cannot be asked at all."""
    told: list[Outcome] = []
    for open_redis in (None, Endpoint(parse_upstream(f"redis://127.0.0.1:{free_port()}/0")).redis):
        refused = RefusedEnqueues(open_redis)
        refused.look(ENQUEUE, REFUSED, told.append)
        await refused.close()
    assert told == []


async def test_it_is_counted_as_any_decision() -> None:
    """And is no task that has ended."""
    telemetry = Telemetry(UPSTREAM, {}, open_redis=FakeRedis(2).open)
    telemetry.refused(ENQUEUE, REFUSED)
    await asyncio.wait_for(telemetry.finish_spans(), 10)
    assert telemetry.decisions == {("mail", "archived", "mail", "replaced", "shadow"): 1}
    assert (telemetry.task_counts.others.tasks, telemetry.task_counts.kinds) == (0, {})


async def test_in_a_cluster_the_node_is_asked() -> None:
    """Each where its task is, in a round trip of its own."""
    elsewhere, one, two = FakeRedis(), FakeRedis(2), FakeRedis(0)
    refused, told = RefusedEnqueues(elsewhere.open), list[Outcome]()
    for node in (one, two):
        refused.look(ENQUEUE, REFUSED, told.append, node.open)
    await refused.close()
    assert (elsewhere.opened, one.opened, two.opened, len(told)) == ([], [0], [0], 1)
