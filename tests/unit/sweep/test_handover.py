import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

import asynq_ttl.sweep.handover
from asynq_ttl.policy.archive_limits import HandoverCap
from asynq_ttl.sweep.handover import Batch, Handover
from asynq_ttl.sweep.sink import Json, SinkError
from support.scripted_redis import ScriptedRedis
from support.task_message import encode_task

GRACE_MS = 60_000
HOLD_MS = 15_000
HOUR_MS = 3_600_000


class Shelf:
    """A sink that takes what it is given while it can."""

    def __init__(self) -> None:
        self.lines: list[Json] = []
        self.asked = 0
        self.fails = False
        self.closed = False

    async def take(self, lines: Sequence[Json]) -> None:
        """Take some lines."""
        self.asked += 1
        if self.fails:
            raise SinkError("disk full")
        self.lines += lines

    async def close(self) -> None:
        """Take note of the end."""
        self.closed = True


def row(message: bytes | None, state: bytes = b"archived", *, size: int | None = None, digest: bytes = b"same") -> Any:
    """Return what `read_tasks` answers about a task."""
    length = size if size is not None else len(message or b"")
    return [state, message, length, 5_000, b"1700000000", 0, 0, digest, b""]


class Tasks:
    """Tasks in Redis, by their IDs, as rows; `remove_due` removes every one that it is told of.

    Args:
        rows: the tasks.
        page: how many of them fit into one answer.
        most: how many the archive keeps, where they are handed over for that.
    """

    def __init__(self, rows: dict[bytes, Any], page: int = 1_000, most: int | None = None) -> None:
        self.rows = rows
        self.page = page
        self.most = most
        self.removals: list[tuple[int, list[bytes]]] = []
        self.client: Any = ScriptedRedis(set(), [], read_tasks=self.read, remove_due=self.remove)

    def read(self, keys: list[bytes], args: list[Any]) -> list[Any]:
        """Answer as `read_tasks` does."""
        prefix, _budget, want, *ids = args
        assert (keys, prefix, want) == ([b"asynq:{mail}:archived"], b"asynq:{mail}:", "whole")
        return [self.rows[task_id] for task_id in ids[: self.page]]

    def remove(self, keys: list[bytes], args: list[Any]) -> list[bytes]:
        """Answer as `remove_due` does."""
        prefix, state, grace_ms, hold_ms, most, *told = args
        assert (keys, prefix) == ([b"asynq:{mail}:archived"], b"asynq:{mail}:")
        assert (state, grace_ms, most) == ("archived", GRACE_MS, "" if self.most is None else self.most)
        self.removals.append((hold_ms, told))
        return [] if hold_ms else told[::2]

    async def hand_over(self, handover: Handover) -> list[bytes]:
        """Hand all of them over in a round of their own; return those that are gone."""
        batch = Batch("mail", "archived", list(self.rows), GRACE_MS, self.most)
        return await handover.hand_over(self.client, batch, handover.begin_round())


async def test_what_the_sink_has_taken_is_removed() -> None:
    """Each task whole; what it was is told to the script, which removes it only if it still is that."""
    shelf = Shelf()
    tasks = Tasks(
        {b"one": row(encode_task("a", "one"), digest=b"1"), b"two": row(encode_task("b", "two"), digest=b"2")}
    )
    assert await tasks.hand_over(Handover(shelf, "shelf")) == [b"one", b"two"]
    assert [(line["id"], line["type"], line["queue"]) for line in shelf.lines] == [
        ("one", "a", "mail"),
        ("two", "b", "mail"),
    ]
    assert tasks.removals == [(0, [b"one", b"1", b"two", b"2"])]


async def test_what_the_sink_has_not_taken_is_not_due_for_a_moment(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The failure is told by the name of the sink."""
    shelf = Shelf()
    shelf.fails = True
    tasks = Tasks({b"one": row(encode_task("a", "one"))})
    with caplog.at_level(logging.WARNING, "asynq_ttl.handover"):
        assert await tasks.hand_over(Handover(shelf, "shelf")) == []
    assert tasks.removals == [(HOLD_MS, [b"one", b"same"])]
    assert caplog.messages == ["the sink shelf failed, due tasks are kept and sent again in 15 seconds: disk full"]


async def test_a_sink_that_has_failed_is_left_alone_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows is held at once, without being read; after the moment it is asked again."""
    shelf = Shelf()
    shelf.fails = True
    handover = Handover(shelf, "shelf")
    tasks = Tasks({b"%d" % number: row(encode_task("a")) for number in range(250)})
    await tasks.hand_over(handover)
    assert shelf.asked == 1
    assert [hold_ms for hold_ms, _ in tasks.removals] == [HOLD_MS] * 2
    monkeypatch.setattr(asynq_ttl.sweep.handover, "_PAUSE_SECONDS", 0)
    other = Handover(shelf, "shelf")
    await tasks.hand_over(other)
    assert shelf.asked == 1 + 3
    shelf.fails = False
    assert (other.failures, other.problem) == (3, "the sink shelf fails: disk full")
    assert len(await tasks.hand_over(other)) == 250
    assert len(shelf.lines) == 250
    assert (other.failures, other.problem) == (3, "")


@pytest.mark.parametrize(("page", "calls"), [(1_000, 3), (60, 5), (1, 250)])
async def test_many_tasks_go_in_pages(page: int, calls: int) -> None:
    """Of a hundred tasks, or of as many as Redis answers with at once; none is left out and none comes twice."""
    shelf = Shelf()
    tasks = Tasks({b"%d" % number: row(encode_task("a")) for number in range(250)}, page)
    gone = await tasks.hand_over(Handover(shelf, "shelf"))
    assert gone == list(tasks.rows)
    assert [line["id"] for line in shelf.lines] == [task_id.decode() for task_id in gone]
    assert shelf.asked == calls


@pytest.mark.parametrize("other", [[], [b"no hash"], row(encode_task("a"), b"pending")])
async def test_what_is_no_task_of_the_state_any_more_is_left_alone(other: Any) -> None:
    """Somebody has run or removed it since; the others go."""
    shelf = Shelf()
    tasks = Tasks({b"gone": other, b"one": row(encode_task("a"))})
    assert await tasks.hand_over(Handover(shelf, "shelf")) == [b"one"]
    assert [line["id"] for line in shelf.lines] == ["one"]


@pytest.mark.parametrize(("message", "encoded"), [(b"\xff\xff", "//8="), (None, "")])
async def test_a_message_that_cannot_be_decoded_goes_as_it_is(message: bytes | None, encoded: str) -> None:
    """It is all that there is of the task; a hash without one goes too."""
    shelf = Shelf()
    tasks = Tasks({b"odd\xff": row(message)})
    assert await tasks.hand_over(Handover(shelf, "shelf")) == [b"odd\xff"]
    assert shelf.lines == [{"queue": "mail", "id": "odd\udcff", "state": "archived", "message_base64": encoded}]


async def test_a_task_that_is_too_large_to_be_read_stays(caplog: pytest.LogCaptureFixture) -> None:
    """It is held for an hour and told of; the others go."""
    shelf = Shelf()
    tasks = Tasks({b"huge": row(None, size=5_000_000, digest=b"size"), b"one": row(encode_task("a"))})
    with caplog.at_level(logging.WARNING, "asynq_ttl.handover"):
        assert await tasks.hand_over(Handover(shelf, "shelf")) == [b"one"]
    assert tasks.removals == [(0, [b"one", b"same"]), (HOUR_MS, [b"huge", b"size"])]
    assert caplog.messages == ["queue mail: 1 due tasks are too large for a sink and kept for an hour"]


async def test_a_slow_sink_is_given_a_few_seconds_of_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is neither held nor removed; the next round goes on with it."""
    monkeypatch.setattr(asynq_ttl.sweep.handover, "_ROUND_SECONDS", 0)
    shelf = Shelf()
    tasks = Tasks({b"one": row(encode_task("a", "one"))})
    assert await tasks.hand_over(Handover(shelf, "shelf")) == []
    assert (shelf.asked, tasks.removals) == (0, [])


async def test_what_is_over_a_cap_is_not_held() -> None:
    """Its key has the time that its rule gives it; the next round finds the oldest again."""
    shelf = Shelf()
    rows = {b"huge": row(None, size=5_000_000), b"one": row(encode_task("a"))}
    assert await Tasks(rows, most=7).hand_over(Handover(shelf, "shelf")) == [b"one"]
    shelf.fails = True
    tasks, handover = Tasks(rows, most=7), Handover(shelf, "shelf")
    for _ in range(2):
        assert await tasks.hand_over(handover) == []
    assert (shelf.asked, tasks.removals) == (2, [])


@pytest.mark.parametrize("spared", [True, False])
async def test_the_oldest_of_an_archive_are_asked_for(spared: bool) -> None:
    """As many as it has too many."""

    def oldest(keys: list[bytes], args: list[Any]) -> list[bytes]:
        assert keys == [b"asynq:{mail}:archived"]
        assert args == [b"asynq:{mail}:t:", 7, "1" if spared else ""]
        return [b"old"]

    client: Any = ScriptedRedis(set(), [], over_cap=oldest)
    assert await Handover(Shelf(), "shelf").over_cap(client, "mail", HandoverCap(7, spared)) == [b"old"]


async def test_the_sink_is_closed() -> None:
    """With the handover."""
    shelf = Shelf()
    await Handover(shelf, "shelf").close()
    assert shelf.closed


class SlowShelf(Shelf):
    """A sink that takes its time, and sees how many ask it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.asking = self.most = 0

    async def take(self, lines: Sequence[Json]) -> None:
        """Take some tasks once it is let."""
        self.asking += 1
        self.most = max(self.most, self.asking)
        await self.free.wait()
        self.asking -= 1
        await super().take(lines)


async def test_a_sink_is_asked_by_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each master of a cluster has its sweeper. One that gets no turn in its time leaves its tasks as they are."""
    shelf = SlowShelf()
    handover = Handover(shelf, "shelf")
    first, second, third = (Tasks({b"%d" % number: row(encode_task("a", str(number)))}) for number in range(3))
    begun = [asyncio.create_task(tasks.hand_over(handover)) for tasks in (first, second)]
    await asyncio.sleep(0.01)
    monkeypatch.setattr(asynq_ttl.sweep.handover, "_ROUND_SECONDS", 0.05)
    assert await third.hand_over(handover) == []
    assert third.removals == []
    shelf.free.set()
    assert await asyncio.gather(*begun) == [[b"0"], [b"1"]]
    assert (shelf.most, handover.failures) == (1, 0)
    assert await third.hand_over(handover) == [b"2"]


async def test_who_waits_for_its_turn_at_a_sink_that_fails() -> None:
    """Does not ask it again: its tasks are held too."""
    shelf = SlowShelf()
    shelf.fails = True
    handover = Handover(shelf, "shelf")
    first, second = (Tasks({b"%d" % number: row(encode_task("a", str(number)))}) for number in range(2))
    begun = [asyncio.create_task(tasks.hand_over(handover)) for tasks in (first, second)]
    await asyncio.sleep(0.01)
    shelf.free.set()
    assert await asyncio.gather(*begun) == [[], []]
    assert (shelf.asked, handover.failures) == (1, 1)
    assert [hold_ms for hold_ms, _ in second.removals] == [HOLD_MS]
