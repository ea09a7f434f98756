import time

import pytest
from redis import exceptions

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.database import DatabaseError, Pace, explained
from asynq_ttl.net.address import parse_upstream

UPSTREAM = parse_upstream("redis://user:secret@example:7000/3")


def test_a_pace_is_kept() -> None:
    """Work takes as long as its rate says; the time it took itself counts."""
    pace, started = Pace(1000), time.monotonic()
    for _ in range(4):
        pace.spend(50)
    time.sleep(0.02)
    pace.spend(50)
    assert 0.19 < time.monotonic() - started < 0.6


def test_no_rate_no_waiting() -> None:
    """And time that was not used is not saved up."""
    started = time.monotonic()
    Pace(0).spend(10**9)
    assert time.monotonic() - started < 0.1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (exceptions.ConnectionError("Error 111 connecting\nto x"), "cannot be reached: Error 111 connecting to x"),
        (exceptions.TimeoutError("Timeout reading"), "does not answer: Timeout reading"),
        (exceptions.AuthenticationError("WRONGPASS"), "does not accept the user and password in the URL: WRONGPASS"),
        (exceptions.ResponseError("NOAUTH"), "refuses: NOAUTH"),
        (exceptions.NoPermissionError("no x"), "the user in the URL lacks a right: no x"),
        (exceptions.ResponseError("LOADING"), "refuses: LOADING"),
        (exceptions.ConnectionError(), "cannot be reached: ConnectionError"),
    ],
)
def test_whatever_goes_wrong_is_one_line(error: Exception, said: str) -> None:
    """Without credentials."""
    with pytest.raises(DatabaseError) as caught, explained(UPSTREAM):
        raise error
    assert str(caught.value).replace(": the", " the") == f"redis://example:7000/3 {said}"


def test_the_prefix_of_a_queue() -> None:
    """Bytes that are not UTF-8 survive."""
    assert queue_prefix("a\udcff") == b"asynq:{a\xff}:"
