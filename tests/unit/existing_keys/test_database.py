import pytest
from redis import exceptions

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys import database
from asynq_ttl.existing_keys.database import Pace, checked


class Clock:
    """A clock that goes on only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return what time it is."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that a pace goes by."""
    clock = Clock()
    monkeypatch.setattr(database, "time", clock)
    return clock


def test_a_pace_is_kept(clock: Clock) -> None:
    """Work takes as long as its rate says; the time it took itself counts, and what was not used is not saved up."""
    pace, waited = Pace(1000), []
    for took in (0.0, 0.02, 0.0, 5.0, 0.0):
        clock.sleep(took)
        before = clock.now
        pace.spend(50)
        waited.append(round(clock.now - before, 6))
    assert waited == [0, 0.03, 0.05, 0, 0.05]


def test_no_rate_no_waiting(clock: Clock) -> None:
    """However much is done."""
    for _ in range(3):
        Pace(0).spend(10**9)
    assert clock.now == 100.0


def test_an_error_among_replies() -> None:
    """It is raised, the first one of several; without one the replies are as they came."""
    assert checked([1, None, b"x"]) == [1, None, b"x"]
    with pytest.raises(exceptions.ResponseError, match="first"):
        checked([1, exceptions.ResponseError("first"), exceptions.ResponseError("second")])


def test_the_prefix_of_a_queue() -> None:
    """Bytes that are not UTF-8 survive."""
    assert queue_prefix("a\udcff") == b"asynq:{a\xff}:"
