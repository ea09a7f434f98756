"""What waits is bounded."""

import pytest

from asynq_ttl.session.routing.backlog import Backlog
from asynq_ttl.session.routing.errand import Errand


@pytest.mark.parametrize(("data", "many"), [(b"", 1_001), (b"x" * 1_024, 257)])
def test_it_is_full_when_much_waits(data: bytes, many: int) -> None:
    """By number or by size; each change is told once."""
    told: list[bool] = []
    backlog = Backlog()
    for _ in range(many):
        backlog.weigh(told.append)
        backlog.append(Errand(data))
    assert told == []
    for _ in range(2):
        backlog.weigh(told.append)
    assert told == [True]
    assert backlog.bytes == len(data) * many
    backlog.clear()
    backlog.weigh(told.append)
    assert told == [True, False]
