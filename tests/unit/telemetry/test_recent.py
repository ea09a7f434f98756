"""What has happened of late: bounded, filtered, and free when nobody watches."""

import asyncio
import json

import pytest

from asynq_ttl.events import Action, FailedOpen, FailOpen, Happened
from asynq_ttl.telemetry import recent
from asynq_ttl.telemetry.entries import MAX_IDS
from asynq_ttl.telemetry.recent import EntryFilter, FilterError, Recent, parse_filter
from support.recorded import ARCHIVE_SHA, END, adopted, failed_open, outcome, swept


def test_a_decision_is_told_in_full() -> None:
    """An entry has what an operator asks for, and can be JSON."""
    log = Recent()
    log.add(outcome(), "ab" * 16)
    (entry,) = log.latest(EntryFilter())
    assert json.loads(json.dumps(entry)) == {
        "kind": "decision",
        "time": "2023-11-14T22:13:20.000Z",
        "operation": "archive",
        "queue": "mail",
        "state": "archived",
        "action": "ttl",
        "mode": "enforce",
        "rule": "default",
        "microseconds": 250,
        "id": "id-1",
        "type": "email:send",
        "ttl_seconds": 3660,
        "database": 0,
        "trace_id": "ab" * 16,
    }


@pytest.mark.parametrize(("reply", "error"), [(b"-NOT FOUND", "NOT FOUND"), (b"", "no reply"), (b"!ERR x", "ERR x")])
def test_an_error_is_told(reply: bytes, error: str) -> None:
    """What Redis refused is in the entry."""
    log = Recent()
    log.add(outcome(reply), "")
    (entry,) = log.latest(EntryFilter())
    assert entry["error"] == error
    assert "trace_id" not in entry


def test_bulk_operations_tell_how_many() -> None:
    """The number in the reply is the number of tasks; an ID and a type there are not."""
    log = Recent()
    log.add(outcome(b":12", task_id="", task_type="", ttl_seconds=None), "")
    (entry,) = log.latest(EntryFilter())
    assert entry["tasks"] == 12
    assert not {"id", "type", "ttl_seconds"} & set(entry)


def test_the_other_kinds() -> None:
    """Sweeps, fail-opens and what happens to the sidecar itself are entries too, newest first."""
    log = Recent()
    log.add(swept("a", "b", ghosts=3), "")
    log.add(FailedOpen(FailOpen.MESSAGE, "truncated", END, "archive", ARCHIVE_SHA, "mail", "id-7"), "")
    log.add(FailedOpen(FailOpen.INTERNAL, "ValueError: x", END), "")
    log.add(Happened("reload", END, "error", "line 3"), "")
    log.add(Happened("pause", END, "ok", ""), "")
    pause, reload, internal, message, sweep = log.latest(EntryFilter())
    assert (sweep["tasks"], sweep["ghosts"], sweep["ids"], sweep["action"]) == (2, 3, ["a", "b"], "delete")
    assert (message["reason"], message["queue"], message["id"]) == ("message", "mail", "id-7")
    assert (message["operation"], message["script"]) == ("archive", ARCHIVE_SHA)
    assert not {"queue", "id", "script"} & set(internal)
    assert (reload["kind"], reload["result"], reload["detail"]) == ("reload", "error", "line 3")
    assert "detail" not in pause


def test_task_ids_can_be_hidden() -> None:
    """Without task IDs none is in any entry, for those who ask and those who watch."""
    log = Recent(task_ids=False)
    with log.watch(EntryFilter()) as watcher:
        log.add(outcome(task_id="secret-1"), "")
        log.add(swept("secret-2"), "")
        log.add(FailedOpen(FailOpen.MESSAGE, "x", END, queue="mail", task_id="secret-3"), "")
        log.add(outcome(task_id="secret-4" * 1_000), "")
        seen = asyncio.run(watcher.fetch(1))
    assert len(seen) == 4
    assert "secret" not in str(seen) + str(log.latest(EntryFilter()))


def test_the_ring_is_bounded() -> None:
    """Only the latest entries are kept, and of long texts only a part."""
    log = Recent()
    for number in range(recent.RING_SIZE + 10):
        log.add(outcome(task_id=str(number), task_type="t" * 100_000), "")
    found = log.latest(EntryFilter())
    assert len(found) == recent.RING_SIZE
    assert found[0]["id"] == str(recent.RING_SIZE + 9)
    assert len(json.dumps(found)) < recent.RING_SIZE * 2_000
    assert len(log.latest(EntryFilter(), 5)) == 5
    log.add(swept(*map(str, range(500))), "")
    assert len(log.latest(EntryFilter(), 1)[0]["ids"]) == MAX_IDS


def test_names_that_are_no_text_can_be_told() -> None:
    """Bytes that are not UTF-8 do not make an entry that cannot be sent."""
    log = Recent()
    log.add(outcome(queue=b"\xff".decode("utf-8", "surrogateescape")), "")
    json.dumps(log.latest(EntryFilter()), ensure_ascii=False).encode()


FILTERS = {
    "queue": [("queue", "ma*")],
    "type": [("type", "email:*")],
    "state": [("state", "archived")],
    "rule": [("rule", "default")],
    "action": [("action", "delete"), ("action", "ttl")],
    "mode": [("mode", "enforce")],
    "kind": [("kind", "decision")],
}
MISSED = {
    "queue": [("queue", "x*")],
    "type": [("type", "email")],
    "state": [("state", "completed")],
    "rule": [("rule", "other")],
    "action": [("action", "delete")],
    "mode": [("mode", "shadow")],
    "kind": [("kind", "sweep")],
    "one of two": [("queue", "mail"), ("mode", "shadow")],
}


@pytest.mark.parametrize("pairs", FILTERS.values(), ids=FILTERS)
def test_a_filter_lets_through_what_is_wanted(pairs: list[tuple[str, str]]) -> None:
    """Queue and type are globs, the others words; several values of a field mean any of them."""
    log = Recent()
    log.add(outcome(), "")
    assert log.latest(parse_filter(pairs))


@pytest.mark.parametrize("pairs", MISSED.values(), ids=MISSED)
def test_a_filter_holds_back_the_rest(pairs: list[tuple[str, str]]) -> None:
    """Every field has to be as wanted."""
    log = Recent()
    log.add(outcome(), "")
    assert not log.latest(parse_filter(pairs))


def test_a_filter_that_cannot_be_understood() -> None:
    """Unknown fields and malformed globs are faults that say what is expected."""
    with pytest.raises(FilterError, match="expected one of queue, type, kind"):
        parse_filter([("colour", "red")])
    with pytest.raises(FilterError, match=r"queue=\[a"):
        parse_filter([("queue", "[a")])


async def test_a_watcher_sees_what_comes() -> None:
    """Entries come in order; afterwards nobody is kept."""
    log = Recent()
    log.add(outcome(task_id="before"), "")
    with log.watch(parse_filter([("action", "ttl")])) as watcher:
        assert log.watchers == 1
        assert await watcher.fetch(0.01) == []
        for number in range(3):
            log.add(outcome(task_id=str(number)), "")
        log.add(outcome(action=Action.KEEP), "")
        assert [entry["id"] for entry in await watcher.fetch(1)] == ["0", "1", "2"]
        assert await watcher.fetch(0.01) == []
    assert log.watchers == 0


async def test_a_slow_watcher_costs_bounded_memory() -> None:
    """What is not fetched in time is dropped, the oldest first, and counted."""
    log = Recent()
    with log.watch(EntryFilter()) as watcher:
        for number in range(recent.WATCHER_QUEUE_SIZE + 7):
            log.add(outcome(task_id=str(number)), "")
        entries = await watcher.fetch(1)
    assert len(entries) == recent.WATCHER_QUEUE_SIZE
    assert entries[0]["id"] == "7"
    assert watcher.dropped == log.dropped == 7


def test_nothing_is_put_into_words_while_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A decision costs a reference in the ring."""
    monkeypatch.setattr(recent, "entry_of", lambda *_, **__: pytest.fail("put into words"))
    Recent().add(outcome(), "")


def test_an_adoption_is_told_with_its_rule() -> None:
    """How many tasks, the first IDs, and of how many nobody knows when they ended; IDs only where they are wanted."""
    log = Recent()
    log.add(adopted(*map(str, range(MAX_IDS + 5)), undated=2, enforced=False), "ab" * 16)
    (entry,) = log.latest(parse_filter([("kind", "adoption"), ("rule", "default")]))
    assert (entry["operation"], entry["state"], entry["action"], entry["mode"]) == (
        "adopt",
        "archived",
        "ttl",
        "shadow",
    )
    assert (entry["tasks"], entry["undated"], len(entry["ids"])) == (MAX_IDS + 5, 2, MAX_IDS)
    hidden = Recent(task_ids=False)
    hidden.add(adopted("secret"), "")
    assert "secret" not in json.dumps(hidden.latest(EntryFilter()))


def test_what_names_a_task() -> None:
    """Of the latest entries, oldest first: also those of sweeps, and those that were cut off."""
    log = Recent()
    long = "x" * 3_000
    log.add(outcome(task_id="a"), "ab" * 16)
    log.add(outcome(task_id="b"), "")
    log.add(swept("b", "a"), "")
    log.add(outcome(task_id=long), "")
    log.add(failed_open(FailOpen.MESSAGE, queue="low", task_id="a"), "")
    assert [entry["kind"] for entry in log.of_task("a")] == ["decision", "sweep", "fail_open"]
    assert [entry["kind"] for entry in log.of_task("a", "mail")] == ["decision", "sweep"]
    assert len(log.of_task(long)) == 1
    assert log.of_task("c") == []


def test_who_else_is_told() -> None:
    """Gets every record, with its trace."""
    log, told = Recent(), []
    log.tell(lambda record, trace_id: told.append((record, trace_id)))
    log.add(outcome(), "ab" * 16)
    log.add(swept("a"), "")
    assert told == [(outcome(), "ab" * 16), (swept("a"), "")]
