import pytest

from asynq_ttl.asynq.key_types import type_at


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (b"asynq:{q}:pending", b"list"),
        (b"asynq:{q}:archived", b"zset"),
        (b"asynq:{q}:groups", b"set"),
        (b"asynq:{q}:paused", b"string"),
        (b"asynq:{q}:t:archived", b"hash"),
        (b"asynq:{q}:g:mail", b"zset"),
        (b"asynq:{q}:unique:x:y", b"string"),
        (b"asynq:{q}:failed:2026-01-01", b"string"),
        (b"asynq:queues", b"set"),
        (b"asynq:servers", b"zset"),
        (b"asynq:servers:{host:1:x}", b"string"),
        (b"asynq:workers:{host:1:x}", b"hash"),
        (b"asynq:schedulers:{host:1:x}", b"list"),
        (b"asynq:scheduler_history:x", b"zset"),
    ],
)
def test_the_type_at_a_place_of_asynqs_grammar(key: bytes, kind: bytes) -> None:
    """Whole names, and names of which the application chooses the end."""
    assert type_at(key) == kind


@pytest.mark.parametrize("key", [b"asynq:{q}:mine", b"asynq:mine", b"user", b"asynq:{a}:t:zz}:archived"])
def test_nothing_is_said_of_other_places(key: bytes) -> None:
    """Those of other programs, and those that can be read twice."""
    assert type_at(key) is None
