"""What wrappers are told, as text that Lua hands on."""

import pytest

from asynq_ttl.policy.archive_limits import ArchiveLimits
from asynq_ttl.policy.rules import Keep, Policy, Retention
from asynq_ttl.rewriting.call import NotUnderstood
from asynq_ttl.rewriting.tails import FOREVER, milliseconds, trims

NOW, OWN_SECONDS, OWN_CAP = 1_000_000, 90_000, 10_000


@pytest.mark.parametrize(
    ("retention", "expected"),
    [
        (Retention(Keep.TTL, 100), 160_000),
        (Retention(Keep.OWN), 90_060_000),
        (Retention(Keep.FOREVER), FOREVER),
        (Retention(Keep.DELETE), -1),
    ],
)
def test_a_key_lives_for_the_retention_and_the_grace(retention: Retention, expected: int) -> None:
    """In milliseconds."""
    assert milliseconds(retention, OWN_SECONDS, 60) == expected


def test_what_lua_cannot_carry_is_refused() -> None:
    """Its numbers are exact up to 2 to the power of 53."""
    assert milliseconds(Retention(Keep.TTL, 2**53 // 1000 - 60), OWN_SECONDS, 60) <= 2**53
    with pytest.raises(NotUnderstood, match="a retention of"):
        milliseconds(Retention(Keep.TTL, 2**53 // 1000), OWN_SECONDS, 60)


def limits(**given: object) -> ArchiveLimits:
    """Return limits that trim nothing by themselves, but for what is given."""
    usual = {"cutoff_seconds": None, "cutoff_own": False, "cap": None, "uncapped": False, "spare_untimed": False}
    return ArchiveLimits(**{**usual, **given})  # type: ignore[arg-type] # each field has its own type


@pytest.mark.parametrize(
    ("given", "rollout", "expected"),
    [
        (limits(), 10_000, b"- -10002 -10001 0 60"),
        (limits(uncapped=True, spare_untimed=True), 10_000, b"- - - 1 60"),
        (limits(cutoff_seconds=100), 10_000, b"999900 -10002 -10001 0 60"),
        (limits(cutoff_seconds=100, cutoff_own=True), 10_000, b"910000 -10002 -10001 0 60"),
        (limits(cap=5), 10_000, b"- -7 -6 0 60"),
        (limits(cap=5), 100, b"- -10002 -10001 0 60"),
    ],
)
def test_the_archive_is_trimmed_as_the_limits_say(given: ArchiveLimits, rollout: int, expected: bytes) -> None:
    """Outside the share of a rollout tasks live by Asynq's own cap, so it is the least."""
    assert trims(Policy((), grace_seconds=60, rollout=rollout), given, NOW, OWN_SECONDS, OWN_CAP) == expected
