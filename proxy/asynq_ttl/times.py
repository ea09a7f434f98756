"""Durations and moments as people write them. Pure: no clock is read here.

A duration is one or more whole numbers with a unit each, in descending order of the units w, d, h, m, s, each at most
once: `90s`, `15m`, `36h`, `7d`, `2w`, `1d12h`. There are no bare numbers, fractions or signs: a file that says `7`
leaves it to the reader whether that is seconds or days.

A moment is written as RFC 3339 has it, in UTC: `2026-11-25T10:00:00Z`. This is the only module that writes one.

Invariant: `parse_duration(format_duration(n)) == n` for every n from 1 to `MAX_SECONDS`.
"""

import re
from datetime import UTC, datetime

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_UNIT_LIST = ", ".join(_UNITS)

MAX_SECONDS = 100 * 365 * _UNITS["d"]
"""A hundred years. Past it a file means `forever`, and sums of durations stay far from 64 bits."""

_DURATION = re.compile("".join(f"(?:([0-9]{{1,12}}){unit})?" for unit in _UNITS))
_PARTS = re.compile(r"([0-9]+)([a-zA-Z]+)")
_BARE_NUMBER = re.compile(r"[0-9]+")
_FRACTION = re.compile(r"[0-9]*\.[0-9]+[a-zA-Z]*|[0-9]+\.[a-zA-Z]*")


class DurationError(ValueError):
    """A text that is no duration.

    Attributes:
        message: what is wrong, starting with the text.
        hint: what to write instead.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def parse_duration(text: str) -> int:
    """Return a duration's seconds, from 1 to `MAX_SECONDS`.

    Args:
        text: what was written; a number without its unit is explained as well.

    Raises:
        DurationError: it is no duration, no time at all, or more than a hundred years.
    """
    found = _DURATION.fullmatch(text)
    if not text or found is None:
        raise _explained(text)
    seconds = sum(int(count or 0) * unit for count, unit in zip(found.groups(), _UNITS.values(), strict=True))
    if seconds == 0:
        raise DurationError(f"{text} is no time at all", "the shortest duration is 1s")
    if seconds > MAX_SECONDS:
        raise DurationError(f"{text} is more than 100 years", f"the longest duration is {format_duration(MAX_SECONDS)}")
    return seconds


def format_duration(seconds: int) -> str:
    """Return whole seconds, 0 or more, as a duration of days, hours, minutes, seconds: `7d`, `1d12h`, `0s`.

    Weeks are not used: `14d` and `30d` compare at a glance, `2w` and `4w2d` do not.
    """
    text = ""
    for unit in "dhms":
        count, seconds = divmod(seconds, _UNITS[unit])
        if count:
            text += f"{count}{unit}"
    return text or "0s"


def _as_seconds(number: str) -> str:
    """Return a bare number as seconds, which it usually means, and as the larger units that make as much."""
    seconds = min(max(int(number), 1), MAX_SECONDS)
    larger = format_duration(seconds)
    return f"{seconds}s" if larger == f"{seconds}s" else f"{seconds}s, which is {larger}"


def _explained(text: str) -> DurationError:
    """Return why a text is no duration, with the likeliest thing that was meant."""
    if text.startswith("-"):
        return DurationError(f"{text} is negative", "a duration is at least 1s")
    if _BARE_NUMBER.fullmatch(text):
        return DurationError(f"{text} is a bare number", f"a duration needs a unit, did you mean {_as_seconds(text)}?")
    if _FRACTION.fullmatch(text):
        return DurationError(f"{text} is a fraction", "write whole numbers: 36h or 1d12h, not 1.5d")
    if ":" in text:
        return DurationError(f"{text} looks like a time of day", "a duration has units, such as 1h30m or 90s")
    tidied = "".join(text.split()).lower()
    if tidied and _DURATION.fullmatch(tidied):
        return DurationError(f"{text} is not a duration", f"did you mean {tidied}?")
    return _explained_parts(text)


def _explained_parts(text: str) -> DurationError:
    """Return why a text that is made of numbers and words is no duration."""
    parts = _PARTS.findall(text)
    if not parts or "".join(count + unit for count, unit in parts) != text:
        return DurationError(f"{text} is not a duration", "write a number and a unit, such as 90s, 36h, 7d or 1d12h")
    for _, unit in parts:
        if unit not in _UNITS:
            return DurationError(f"{text} has the unknown unit {unit}", f"the units are {_UNIT_LIST}")
    if any(len(count) > 12 for count, _ in parts):
        return DurationError(
            f"{text} is more than 100 years", f"the longest duration is {format_duration(MAX_SECONDS)}"
        )
    return DurationError(
        f"{text} has its units out of order",
        f"each unit comes once, in the order {_UNIT_LIST}: 1d12h, not 12h1d",
    )


def rfc3339(seconds: float, precision: str = "seconds", utc: str = "Z") -> str:
    """Return a moment as RFC 3339 text in UTC: `2026-11-25T10:00:00Z`.

    Args:
        seconds: since the epoch.
        precision: `seconds` or `milliseconds`; what is finer is cut off.
        utc: how the text says that it is in UTC: `Z` or `+00:00`.

    Raises:
        OverflowError, ValueError, OSError: no calendar has this moment.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", utc)


def moment(seconds: int) -> str | None:
    """Return a moment that Redis or a task names, in seconds since the epoch, as RFC 3339 text.

    None where it is 0, which stands for no moment, and where no calendar has it: the number may be damaged.
    """
    try:
        return rfc3339(seconds) if seconds > 0 else None
    except (OverflowError, ValueError, OSError):
        return None
