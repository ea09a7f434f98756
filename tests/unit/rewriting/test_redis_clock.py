"""When a caller's time is known to be Redis's."""

import pytest

from asynq_ttl.rewriting.redis_clock import RedisClock


class Elapsed:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        """Read it."""
        return self.at


def test_nobody_knows_it_at_first_or_once_it_is_forgotten() -> None:
    """Then no time agrees."""
    clock, elapsed = RedisClock(), Elapsed()
    assert not clock.agrees(0)
    clock.note(5000.0, 99.9, 100.0, elapsed)
    assert clock.agrees(5000)
    clock.forget()
    assert not clock.agrees(5000)


@pytest.mark.parametrize(
    ("now", "agrees"), [(5001, False), (5000, True), (4993, True), (4992, False), (0, False), (9999, False)]
)
def test_a_time_agrees_if_redis_is_just_past_it(now: int, *, agrees: bool) -> None:
    """Never one that is still to come, nor one that is eight seconds old or more."""
    clock, elapsed = RedisClock(), Elapsed()
    clock.note(5000.3, 100.0, 100.0, elapsed)
    assert clock.agrees(now) is agrees


def test_how_long_the_answer_took_counts_against_it() -> None:
    """Redis told its time at any moment between question and answer, so neither end is certain."""
    clock, elapsed = RedisClock(), Elapsed()
    clock.note(5000.3, 99.5, 100.0, elapsed)
    assert clock.agrees(5000)
    elapsed.at = 100.6
    assert not clock.agrees(5001)
    assert not clock.agrees(4993)
    elapsed.at = 100.8
    assert clock.agrees(5001)


def test_what_was_told_lasts_for_a_moment() -> None:
    """Redis's clock goes on; that it was not set meanwhile, nobody believes for long."""
    clock, elapsed = RedisClock(), Elapsed()
    clock.note(5000.5, 100.0, 100.0, elapsed)
    elapsed.at = 102.9
    assert clock.agrees(5003)
    elapsed.at = 103.0
    assert not clock.agrees(5003)
