import time

import pytest
from redis import exceptions

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.database import Pace, checked


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


def test_an_error_among_replies() -> None:
    """It is raised, the first one of several; without one the replies are as they came."""
    assert checked([1, None, b"x"]) == [1, None, b"x"]
    with pytest.raises(exceptions.ResponseError, match="first"):
        checked([1, exceptions.ResponseError("first"), exceptions.ResponseError("second")])


def test_the_prefix_of_a_queue() -> None:
    """Bytes that are not UTF-8 survive."""
    assert queue_prefix("a\udcff") == b"asynq:{a\xff}:"
