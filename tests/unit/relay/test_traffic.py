"""The counters of what passes, and what is timed of it."""

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
    traffic.time_reply(done.append, b"PONG")
    assert not traffic.reply_due
    assert done == [b"PING", b"PONG"]
    assert [direction for _, direction in seen.chunks] == ["command", "reply"]
    assert all(0 < nanoseconds < 10**9 for nanoseconds, _ in seen.chunks)


def test_what_is_timed_is_not_due_while_it_is_done() -> None:
    """A chunk is handed to the very method that asks whether one is due."""
    traffic = Traffic(Measured())
    traffic.time_next()
    due: list[bool] = []
    traffic.time_command(lambda _: due.append(traffic.command_due), b"")
    traffic.time_reply(lambda _: due.append(traffic.reply_due), b"")
    assert due == [False, False]
