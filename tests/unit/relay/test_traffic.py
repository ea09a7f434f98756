"""The counters of what passes, and what is timed of it."""

from types import SimpleNamespace

import pytest

from asynq_ttl.relay import traffic as traffic_module
from asynq_ttl.relay.traffic import Traffic
from support.relayed import Measured


def test_one_chunk_in_each_direction_is_timed_for_each_beat() -> None:
    """What is to be done with it is done, and whoever is told gets how long that took."""
    seen = Measured()
    done: list[bytes] = []
    traffic = Traffic(seen)
    assert not traffic.command_due
    assert not traffic.reply_due
    traffic.time_next()
    assert traffic.command_due
    assert traffic.reply_due
    traffic.time_command(done.append, b"PING")
    assert not traffic.command_due
    assert traffic.reply_due
    traffic.time_reply(done.append, lambda data: done.append(data.lower()), b"PONG")
    assert not traffic.reply_due
    assert done == [b"PING", b"PONG", b"pong"]
    assert [direction for _, direction in seen.chunks] == ["command", "reply"]
    assert all(0 < nanoseconds < 10**9 for nanoseconds, _ in seen.chunks)


def test_what_is_timed_is_not_due_while_it_is_done() -> None:
    """A chunk is handed to the very method that asks whether one is due."""
    traffic = Traffic(Measured())
    traffic.time_next()
    due: list[bool] = []
    traffic.time_command(lambda _: due.append(traffic.command_due), b"")
    traffic.time_reply(lambda _: due.append(traffic.reply_due), lambda _: None, b"")
    assert due == [False, False]


def test_replies_are_told_of_with_the_span_that_was_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the latest one; one that was made before is of other replies. How long note was taken does not count."""
    seen, now = Measured(), [0]
    monkeypatch.setattr(traffic_module, "time", SimpleNamespace(perf_counter_ns=lambda: now[0]))
    traffic = Traffic(seen)
    seen.latest_span = (1, 1, None)

    def give(_data: bytes) -> None:
        now[0] += 3

    def note(data: bytes) -> None:
        now[0] += 1_000
        for number in data:
            seen.latest_span = (number, number, None)

    for data in (b"", b"\1\2", b"", b"\2"):
        traffic.time_reply(give, note, data)
    assert seen.spans == [None, (2, 2, None), None, (2, 2, None)]
    assert seen.chunks == [(3, "reply")] * 4
