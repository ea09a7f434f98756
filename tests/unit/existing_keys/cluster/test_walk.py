"""A walk through a cluster says where it stands in a text, from which another run goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.existing_keys.cluster.walk import Stage, parse_stage, ranges_of
from asynq_ttl.wire.cluster.slots import SLOTS

SLOT_SETS = st.frozensets(st.integers(0, SLOTS - 1), max_size=50)


@given(st.integers(0, 2**64 - 1), SLOT_SETS, SLOT_SETS, st.sampled_from(["", "run"]))
def test_what_is_written_is_read(scan: int, slots: frozenset[int], done: frozenset[int], run: str) -> None:
    """Whatever the slots are."""
    stage = Stage(scan, "node", run, slots, done)
    assert parse_stage(str(stage)) == stage


def test_slots_are_written_as_ranges() -> None:
    """So a text of a whole cluster is short."""
    assert ranges_of([7, 5, 4, 3, 0]) == "0,3-5,7"
    assert str(Stage(12, "node", "run", frozenset(range(SLOTS)))) == "12 node run 0-16383 -"


@pytest.mark.parametrize("text", ["", "7", "x node run - -", "1 node run 5-x -"])
def test_what_is_no_such_text(text: str) -> None:
    """It is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 - the standard library's
        parse_stage(text)
