"""How much is held of large commands, all connections together."""

from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asynq_ttl.session.holding
import asynq_ttl.wire.commands
from asynq_ttl.events import FailOpen
from asynq_ttl.rewriting.registry import Status, sha_of
from asynq_ttl.session.holding import Holding, Room
from asynq_ttl.wire.commands import HOLD_BYTES, Command, encode
from support.conversation import ACTIVE, INDEX, LEASE, PAUSED, PENDING, Conversation, complete, completed, pipeline
from support.small_scripts import COMPLETE, OTHER

COMPLETE_SHA = sha_of(COMPLETE)
PING = (b"PING",)
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


class Told:
    """Remembers why commands were not held."""

    def __init__(self) -> None:
        self.reasons: list[FailOpen] = []

    def __call__(self, reason: FailOpen, detail: str, keys: Command) -> None:
        """Remember a reason."""
        assert detail
        assert isinstance(keys, list)
        self.reasons.append(reason)


def test_room_is_taken_for_twice_as_much_as_has_come() -> None:
    """It is asked again before the command is that long, and then takes what is missing; all of it is given back."""
    room, told = Room(1_000), Told()
    holding = Holding(room, lambda _head: True, told)
    for size, taken in ((100, 200), (150, 300), (120, 300), (500, 1_000)):
        assert holding.must_hold([b"EVAL"], size)
        assert holding.taken_bytes == room.taken_bytes == taken
    assert not holding.must_hold([b"EVAL"], 501)
    assert room.taken_bytes == 1_000
    holding.give_back(HOLD_BYTES)  # another large command is held by now
    assert room.taken_bytes == 1_000
    holding.give_back(HOLD_BYTES - 1)
    assert holding.taken_bytes == room.taken_bytes == 0
    assert told.reasons == [FailOpen.SIZE]


def test_what_is_not_rewritten_takes_no_room() -> None:
    """By the arguments that have come; nobody is told, for nothing is lost."""
    room, told = Room(1_000), Told()
    holding = Holding(room, lambda head: head[0] == b"EVAL", told)
    assert not holding.must_hold([b"SET"], 100)
    assert (room.taken_bytes, told.reasons) == (0, [])


def test_whoever_does_not_know_holds_nothing() -> None:
    """A fault while it is found out lets the command go on; that is told."""

    def fail(_head: list[bytes]) -> bool:
        raise RuntimeError("a fault")

    told = Told()
    holding = Holding(room := Room(1_000), fail, told)
    assert not holding.must_hold([b"EVAL"], 100)
    assert (room.taken_bytes, told.reasons) == (0, [FailOpen.INTERNAL])


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
    assert talk.session.holding.taken_bytes == talk.shared.room.taken_bytes > 0
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


@pytest.mark.parametrize("step", [10_000, 100_000])
def test_a_large_call_of_a_wrapped_script_is_held_and_rewritten(step: int) -> None:
    """A task may be large; its command is held until it is whole, whatever is known of it at the limit."""
    talk = Conversation().knows(COMPLETE)
    call = (*complete(COMPLETE_SHA), b"x" * 300_000)
    expected = encode((*completed(talk.wrapper_sha(COMPLETE))[:-1], b"x" * 300_000, b"?2000000 604860000"))
    assert talk.downstream_sends_bytes(encode(call), step) == expected


@pytest.mark.parametrize(
    ("head", "held"),
    [
        ((b"EVAL",), True),
        ((b"SCRIPT",), True),
        ((b"EVALSHA",), True),
        ((b"EVALSHA", b"0" * 40), True),
        ((b"EVALSHA", b"0" * 40, b"2"), True),
        ((b"EVALSHA", b"0" * 40, b"2", INDEX), True),
        ((b"EVALSHA", b"0" * 40, b"2", INDEX, b"asynq:{q}:t:1"), True),
        ((b"EVALSHA", b"0" * 40, b"4", PENDING, PAUSED, ACTIVE, LEASE), True),
        ((b"EVALSHA", COMPLETE_SHA, b"2"), True),
        ((b"EVALSHA", sha_of(OTHER), b"2"), False),
        ((b"EVALSHA", b"0" * 40, b"1", b"some:key"), False),
        ((b"EVALSHA", b"0" * 40, b"x", INDEX), False),
        ((b"EVALSHA", b"0" * 40, b"99999", INDEX), False),
        ((b"SET", b"key"), False),
    ],
)
def test_a_large_command_is_held_only_if_it_may_have_to_be_rewritten(head: tuple[bytes, ...], held: bool) -> None:
    """What is known of it when the limit is reached decides."""
    talk = Conversation().knows(COMPLETE)
    talk.registry.learn(OTHER)
    data = encode((*head, b"x" * 200_000, b"end"))
    out = talk.session.receive_downstream(data[:100_000])
    assert out == (b"" if held else data[:100_000])
    assert talk.session.busy


def test_an_oversize_command_is_let_through_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, whatever might have been rewritten; somebody is told."""
    monkeypatch.setattr(asynq_ttl.wire.commands, "MAX_HELD_BYTES", 3 * HOLD_BYTES)
    monkeypatch.setattr(asynq_ttl.session.holding, "MAX_HELD_BYTES", 3 * HOLD_BYTES)
    talk = Conversation().knows(COMPLETE)
    call = (*complete(COMPLETE_SHA), b"x" * 5 * HOLD_BYTES)
    data = pipeline(call, PING)
    assert talk.downstream_sends_bytes(data, 10_000) == data
    assert talk.complaints() == [FailOpen.SIZE]
    assert talk.session.commands == 2
    assert not talk.session.busy
    assert talk.session.pending == 0
