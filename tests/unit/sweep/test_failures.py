"""What Redis refuses at one place is noted there, and named once."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from asynq_ttl.sweep.failures import Failures


def test_a_place_that_fails_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    """It is named again only after a round in which it did not fail."""
    failures = Failures()
    for named in (1, 1, 1):
        with failures.kept_to("queue a"):
            raise ResponseError("WRONGTYPE")
        assert failures.end_round() == "1 refusals, the first at queue a: WRONGTYPE"
        assert len(caplog.records) == named
    assert failures.end_round() == ""
    with failures.kept_to("queue a"):
        raise ResponseError("WRONGTYPE")
    assert len(caplog.records) == 2


@pytest.mark.parametrize("error", [RedisConnectionError("away"), ReadOnlyError("replica")])
def test_what_concerns_all_of_redis_is_raised(error: Exception) -> None:
    """No other place would fare better."""
    with pytest.raises(type(error)), Failures().kept_to("queue a"):
        raise error
