"""A change is made only if the task is still what it was when it was decided; each part of that on its own."""

from collections.abc import Callable

import pytest
from redis import Redis

from asynq_ttl.existing_keys.changes import Change, Changer, change_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import index_pages
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.policy.plan import Act, Plan
from support.existing_keys import QUEUE, everything, put, url
from support.servers import Server
from support.task_message import encode_task

SCORE = 1_700_000_000
FUTURE = 4_000_000_000
PLANS = [Plan(Act.TTL, "r", "", FUTURE), Plan(Act.PERSIST, "r", "", score=FUTURE), Plan(Act.REMOVE, "r", "")]

CHANGED: dict[str, Callable[["Redis"], object]] = {
    "state": lambda client: client.hset(QUEUE + "t:a", "state", "pending"),
    "score": lambda client: client.zadd(QUEUE + "archived", {"a": SCORE + 1}),
    "entry": lambda client: client.zrem(QUEUE + "archived", "a"),
    "message": lambda client: client.hset(QUEUE + "t:a", "msg", encode_task("y", "a", "default")),
    "ttl": lambda client: client.expire(QUEUE + "t:a", 500),
    "hash": lambda client: client.delete(QUEUE + "t:a"),
}


def planned(database: Database, plan: Plan) -> Change:
    """Return the change that carries a plan out on the first archived task."""
    entry = next(index_pages(database, Place("default", "archived", 1), "digest"))[0]
    return change_of(entry.task, plan, index="archived", score=entry.score)


@pytest.mark.parametrize("changed", CHANGED)
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.act.value)
def test_a_task_that_is_no_longer_what_it_was_is_left_alone(server: Server, plan: Plan, changed: str) -> None:
    """Whatever has changed meanwhile, nothing else does."""
    with server.client() as client:
        put(client, "a", "archived", SCORE, lock=True)
        database = Database(parse_upstream(url(server)))
        change = planned(database, plan)
        CHANGED[changed](client)
        before = everything(client)
        changer = Changer(database, None, apply=True, show=lambda _: None)
        changer.make([change], ())
        assert everything(client) == before
        assert (changer.missed, sum(changer.counts.values())) == (1, 0)
        database.close()


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.act.value)
def test_a_task_that_is_what_it_was_is_changed(server: Server, plan: Plan) -> None:
    """The control: with nothing changed meanwhile each plan is carried out, whole."""
    with server.client() as client:
        put(client, "a", "archived", SCORE, lock=True)
        database = Database(parse_upstream(url(server)))
        changer = Changer(database, None, apply=True, show=lambda _: None)
        changer.make([planned(database, plan)], ())
        assert (changer.missed, sum(changer.counts.values())) == (0, 1)
        gone = plan.act is Act.REMOVE
        assert client.exists(QUEUE + "t:a") == client.exists(QUEUE + "unique:a") == (not gone)
        assert client.zscore(QUEUE + "archived", "a") == (None if gone else plan.score or SCORE)
        assert (client.ttl(QUEUE + "t:a") > 0) == (plan.act is Act.TTL)
        database.close()


def test_a_ttl_whose_time_is_over_takes_the_entry_along(server: Server) -> None:
    """A run that goes on much later sets no TTL that fires at once and leaves a ghost."""
    with server.client() as client:
        put(client, "a", "archived", SCORE, lock=True)
        database = Database(parse_upstream(url(server)))
        changer = Changer(database, None, apply=True, show=lambda _: None)
        changer.make([planned(database, Plan(Act.TTL, "r", "", SCORE + 5))], ())
        assert client.keys("asynq:{*") == []
        database.close()


def test_large_messages_are_read_in_small_pages(server: Server) -> None:
    """However large the messages are, all tasks are read, and a page is small."""
    with server.client() as client:
        for number in range(30):
            put(client, f"task-{number:02}", "archived", SCORE + number, payload=b"x" * 200_000)
        put(client, "huge", "archived", SCORE + 100, payload=b"x" * 5_000_000)
        database = Database(parse_upstream(url(server)))
        pages = list(index_pages(database, Place("default", "archived", 1), "digest"))
        assert [entry.task.id for page in pages for entry in page] == [
            *(f"task-{number:02}".encode() for number in range(30)),
            b"huge",
        ]
        assert max(map(len, pages)) < 10
        records = [entry.task.record for page in pages for entry in page]
        assert all(record and record.type == "x" and record.payload == b"" for record in records[:-1])
        database.close()


def test_an_index_that_shrinks_while_it_is_read(server: Server) -> None:
    """Entries that leave the index make none be passed over, and none come twice, even where scores are equal."""
    with server.client() as client:
        for number in range(300):
            put(client, f"task-{number:03}", "archived", SCORE + number // 150)
        database = Database(parse_upstream(url(server)))
        seen = []
        for page in index_pages(database, Place("default", "archived", 1)):
            seen += [entry.task.id.decode() for entry in page]
            client.zrem(QUEUE + "archived", *seen[-40:], *seen[:5])
        assert seen == [f"task-{number:03}" for number in range(300)]
        database.close()
