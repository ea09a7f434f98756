"""How much is held of large commands, all connections together."""

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asynq_ttl.session.holding
import asynq_ttl.wire.commands
from asynq_ttl.events import FailOpen
from asynq_ttl.rewriting.registry import Status, sha_of
from asynq_ttl.session.holding import Room
from asynq_ttl.wire.commands import HOLD_BYTES
from support.conversation import COMPLETE, Conversation, complete, pipeline

CALL = pipeline((*complete(sha_of(COMPLETE)), b"x" * 5 * HOLD_BYTES))
# Room is taken for twice as much as has come.
MOST = 10 * HOLD_BYTES


def two(limit_bytes: int) -> tuple[Conversation, Conversation]:
    """Return two connections of one sidecar with so much room."""
    one = Conversation().knows(COMPLETE)
    one.shared.room.limit_bytes = limit_bytes
    return one, Conversation(others=one)


def test_room_is_taken_and_given_back() -> None:
    """What does not fit is not taken."""
    room = Room(10)
    assert room.take(6)
    assert not room.take(5)
    assert room.take(4)
    room.give_back(6)
    assert room.taken_bytes == 4


def test_what_there_is_no_room_for_goes_untouched_and_is_told() -> None:
    """The first call is held and rewritten, the second let through; when the first is whole there is room again."""
    one, other = two(MOST)
    assert one.downstream_sends_bytes(CALL[: 3 * HOLD_BYTES], 10_000) == b""
    assert other.downstream_sends_bytes(CALL, 10_000) == CALL
    assert other.complaints() == [FailOpen.SIZE]
    assert one.complaints() == []
    assert one.downstream_sends_bytes(CALL[3 * HOLD_BYTES :], 10_000) != CALL
    assert one.shared.room.taken_bytes == 0


@pytest.mark.parametrize("status", [Status.ACTIVE, Status.BROKEN])
def test_a_call_that_waits_for_its_wrapper_keeps_its_room(status: Status) -> None:
    """It is given back when the call is on its way."""
    talk = Conversation()
    talk.registry.learn(COMPLETE)
    talk.downstream_sends_bytes(CALL, 10_000)
    assert talk.session.waiting_for is not None
    assert talk.shared.room.taken_bytes >= len(CALL)
    talk.activation_ends(status)
    assert talk.shared.room.taken_bytes == 0


def test_a_client_that_goes_away_gives_back_what_it_had() -> None:
    """However much of its command has come."""
    talk = Conversation().knows(COMPLETE)
    talk.downstream_sends_bytes(CALL[: 3 * HOLD_BYTES], 10_000)
    assert talk.shared.room.taken_bytes > 0
    talk.session.close()
    assert talk.shared.room.taken_bytes == 0


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 500), min_size=1, max_size=4), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 100)), max_size=80),
    st.integers(0, 1500),
)
def test_no_more_is_held_than_there_is_room_for(
    payloads: list[list[int]], turns: list[tuple[int, int]], limit_bytes: int
) -> None:
    """Whoever sends how much of what in which order: what is held has its room, and all of it is given back."""
    first = Conversation().knows(COMPLETE)
    room = first.shared.room
    room.limit_bytes = limit_bytes
    talks = [first, *(Conversation(others=first) for _ in payloads[1:])]
    left = [b"".join(pipeline((*complete(sha_of(COMPLETE)), b"x" * size)) for size in sizes) for sizes in payloads]
    with (
        patch.multiple(asynq_ttl.wire.commands, HOLD_BYTES=64, MAX_HELD_BYTES=400),
        patch.multiple(asynq_ttl.session.holding, HOLD_BYTES=64, MAX_HELD_BYTES=400),
    ):
        for who, size in [*turns, *((who, 10_000) for who in range(len(talks)))]:
            talk, data = talks[who % len(talks)], left[who % len(talks)]
            talk.downstream_sends_bytes(data[:size] or b"*0\r\n")
            left[who % len(talks)] = data[size:]
            large = [each.session.held_bytes for each in talks if each.session.held_bytes >= 64 + 100]
            assert sum(large) - 100 * len(large) <= room.taken_bytes <= limit_bytes
    assert room.taken_bytes == 0
