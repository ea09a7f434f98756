"""The slot of a key."""

import pytest

from asynq_ttl.wire.cluster.slots import slot_of


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),  # the specification's own example
        (b"asynq:queues", 3477),
        (b"", 0),
        (b"asynq:{default}:t:1", slot_of(b"default")),
        (b"{a}{b}", slot_of(b"a")),
        (b"foo{bar}{zap}", slot_of(b"bar")),
    ],
)
def test_a_slot_is_that_of_the_tag(key: bytes, slot: int) -> None:
    """Keys with the same tag have the same slot."""
    assert slot_of(key) == slot


@pytest.mark.parametrize("key", [b"foo{}{bar}", b"foo{", b"foo}{", b"{}"])
def test_what_is_no_tag_counts_whole(key: bytes) -> None:
    """Empty braces, and braces that do not close, are part of the key."""
    assert slot_of(key) != slot_of(key + b"x")
    assert slot_of(key) != slot_of(b"bar")
