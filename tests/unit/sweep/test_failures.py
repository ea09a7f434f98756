"""What Redis refuses at one place is noted there, and named once."""

import pytest
from redis.exceptions import AskError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

from asynq_ttl.policy.rules import State
from asynq_ttl.sweep.failures import FORGOTTEN_SECONDS, MOST_NAMED, Failures, words_of


def refuse(failures: Failures, *place: int | str | State, error: str = "WRONGTYPE") -> None:
    """Let Redis refuse something at a place."""
    with failures.kept_to(*place):  # type: ignore[arg-type] # a database, a queue and an index
        raise ResponseError(error)


def test_a_place_that_fails_is_named_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where some rounds do not come to it; but again if it was well for long."""
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    failures = Failures()
    for _ in range(3):
        refuse(failures, 0, "a", State.ARCHIVED)
        assert failures.end_round() == 1
        assert failures.end_round() == 0
        now += FORGOTTEN_SECONDS - 1
    assert caplog.messages == ["archived of queue a in database 0 cannot be swept, the rest is: WRONGTYPE"]
    now += 2
    failures.end_round()
    assert failures.places() == []
    refuse(failures, 0, "a", State.ARCHIVED)
    assert len(caplog.messages) == 2


def test_what_ends_every_round_is_named_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Again if it is something else, if a round has come to its end meanwhile, or after a while."""
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    failures = Failures()
    for problem in ("away", "away", "NOPERM", "NOPERM", "", "", "NOPERM"):
        failures.end_round(problem)
    now += FORGOTTEN_SECONDS + 1
    failures.end_round("NOPERM")
    assert [message.rpartition(": ")[2] for message in caplog.messages] == ["away", "NOPERM", "NOPERM", "NOPERM"]


def test_places_are_told_with_what_redis_said_last() -> None:
    """A database, an index, or a list."""
    failures = Failures()
    refuse(failures, 7, error="NOPERM")
    refuse(failures, 7, "a", "active")
    refuse(failures, 7, error="another")
    refuse(failures, 7, "a", error="another")
    assert [(place, error) for place, error, _ in failures.places()] == [
        ("database 7", "another"),
        ("active of queue a in database 7", "WRONGTYPE"),
        ("queue a in database 7", "another"),
    ]
    assert failures.refusals == {"7": 4}


def test_so_many_places_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """The others are only counted."""
    failures = Failures()
    for number in range(MOST_NAMED + 5):
        refuse(failures, 0, f"queue-{number}", "active")
    assert len(failures.places()) == len(caplog.messages) == MOST_NAMED
    assert failures.end_round() == failures.refusals["0"] == MOST_NAMED + 5


@pytest.mark.parametrize(
    "error",
    [
        RedisConnectionError("away"),
        ReadOnlyError("replica"),
        ResponseError("BUSY Redis is busy running a script."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
    ],
)
def test_what_concerns_all_of_redis_is_raised(error: Exception) -> None:
    """No other place would fare better."""
    with pytest.raises(type(error)), Failures().kept_to(0):
        raise error


@pytest.mark.parametrize("error", [MovedError("1584 10.0.0.1:7001"), AskError("1584 10.0.0.1:7001")])
def test_a_queue_that_has_moved_is_no_failure(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """At a master of a cluster; without one it says that Redis is a cluster all the same."""
    for moves, said in ((True, []), (False, ["slot 1584 has moved to 10.0.0.1:7001"])):
        failures = Failures(moves=moves)
        with failures.kept_to(0, "a"):
            raise error
        assert [told for _, told, _ in failures.places()] == said
        assert failures.end_round() == len(said)
    assert caplog.messages == [f"queue a in database 0 cannot be swept, the rest is: {said[0]}"]


def test_an_error_has_words() -> None:
    """Also one that says nothing."""
    assert [words_of(error) for error in (OSError("away"), TimeoutError())] == ["away", "TimeoutError"]
