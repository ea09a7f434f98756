"""What makes a hold, and what its field says."""

import pytest

from asynq_ttl.asynq.hold import FIELD, HELD_SCORE, Hold, hold_of
from asynq_ttl.lua.loader import load, names
from asynq_ttl.policy.rules import FOREVER_SCORE

HELD = b"%d" % HELD_SCORE


def test_field_and_score_make_a_hold() -> None:
    """It says what both were before."""
    assert hold_of(b"5 1700000000000 1700000000", HELD) == Hold(
        b"5 1700000000000 1700000000", b"5", 1_700_000_000_000, 1_700_000_000
    )
    assert hold_of(b"1.5e+18 -1 17", HELD) == Hold(b"1.5e+18 -1 17", b"1.5e+18", None, 17)


@pytest.mark.parametrize(("value", "score"), [(None, HELD), (b"5 -1 17", None), (b"5 -1 17", b"5"), (None, None)])
def test_one_alone_is_none(value: bytes | None, score: bytes | None) -> None:
    """A run past the sidecar leaves the field; a score may be anybody's."""
    assert hold_of(value, score) is None


@pytest.mark.parametrize("value", [b"", b"5", b"x -1 17", b"5 -2 17", b"inf -1 17", b"5 -1 17 9"])
def test_a_field_that_says_nothing_is_a_hold_all_the_same(value: bytes) -> None:
    """Of what the task was before nothing is known."""
    assert hold_of(value, HELD) == Hold(value, b"0", None, 0)


def test_no_other_score_is_the_one_of_a_hold() -> None:
    """It is below that of what is kept for ever, and Lua has the same one."""
    assert HELD_SCORE == FOREVER_SCORE - 1
    assert f"asynq_ttl_held_score = '{HELD_SCORE}'\n" in load("shared/hold.prologue")


def test_every_text_has_the_same_name_for_the_field() -> None:
    """Wherever a Lua text has it."""
    folders = ("shared", "wrappers", "sweep", "existing_keys")
    texts = [load(name) for folder in folders for name in names(folder)]
    assert sum(f"'{FIELD}'" in text for text in texts) >= 9
