"""A hold: an ended task that nobody removes until it is released, run again, or deleted by hand. Pure.

Two things make a hold, and only both together: a field in the task's hash, and the score of its entry in the index.

Invariants:

* No score that Asynq, a policy or an adoption gives is `HELD_SCORE`. It lies beyond every clock, so Asynq's own janitor
  and its trims by score pass a held task over, and to its trims by number it is the newest: also past every sidecar.
* A run past every sidecar leaves the field behind, but the score goes with the entry: what is left is no hold.
* The field says what a release gives back.
"""

import re
from dataclasses import dataclass

FIELD = "asynq_ttl_hold"
"""The field of a task's hash. Asynq reads the fields that it knows, by their names."""

HELD_SCORE = 253_402_300_798
"""The score of a held task in its index: a second before that of what is kept for ever, in a year with four digits."""

_VALUE = re.compile(rb"(\S+) (-1|\d{1,15}) (\d{1,15})")


@dataclass(frozen=True, slots=True)
class Hold:
    """A hold.

    Attributes:
        value: the field as it stands in the hash.
        score: the score that the entry had before, as Redis writes it.
        expires_at_ms: when the key would have expired, in Unix milliseconds; None for never.
        since: since when the task is held, in Unix seconds.
    """

    value: bytes
    score: bytes
    expires_at_ms: int | None
    since: int


def hold_of(value: bytes | None, score: bytes | None) -> Hold | None:
    """Return the hold of a task; None where it is not held.

    Args:
        value: the field of its hash.
        score: the score of its entry, as Redis writes it; None without an entry.
    """
    if value is None or score is None or score != b"%d" % HELD_SCORE:
        return None
    found = _VALUE.fullmatch(value)
    if found is None or not _is_number(found[1]):
        # Nobody can tell what it was: it ended when nobody knows.
        return Hold(value, b"0", None, 0)
    expires = int(found[2])
    return Hold(value, found[1], None if expires < 0 else expires, int(found[3]))


def _is_number(score: bytes) -> bool:
    try:
        return abs(float(score)) < float("inf")
    except ValueError:
        return False
