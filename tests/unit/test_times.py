"""Durations and moments: what is written is what is meant, and any text is read or explained."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.times import MAX_SECONDS, DurationError, format_duration, moment, parse_duration, rfc3339
from support.paths import PACKAGE


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("15m", 900),
        ("36h", 129_600),
        ("7d", 604_800),
        ("2w", 1_209_600),
        ("1d12h", 129_600),
        ("1w1d1h1m1s", 694_861),
        ("0d1s", 1),
        ("07d", 604_800),
        ("36500d", MAX_SECONDS),
    ],
)
def test_a_duration_is_its_seconds(text: str, seconds: int) -> None:
    """Whole numbers with descending units add up."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("7", "7 is a bare number", "a duration needs a unit, did you mean 7s?"),
        ("007", "007 is a bare number", "did you mean 7s?"),
        ("3600", "3600 is a bare number", "did you mean 3600s, which is 1h?"),
        ("99999999999999", "is a bare number", "which is 36500d?"),
        ("0", "0 is a bare number", "did you mean 1s?"),
        ("0s", "no time at all", "1s"),
        ("0d0h", "no time at all", "1s"),
        ("-7d", "negative", "at least 1s"),
        ("1.5d", "fraction", "36h"),
        (".5", "fraction", "36h"),
        ("1.d", "fraction", "36h"),
        ("1:30", "time of day", "1h30m"),
        ("7D", "7D is not a duration", "did you mean 7d?"),
        ("1d 12h", "not a duration", "did you mean 1d12h?"),
        ("", "not a duration", "a number and a unit"),
        ("d", "not a duration", "a number and a unit"),
        ("7d!", "not a duration", "a number and a unit"),
        ("\N{ARABIC-INDIC DIGIT SEVEN}d", "not a duration", "a number and a unit"),
        ("7days", "unknown unit days", "w, d, h, m, s"),
        ("100ms", "unknown unit ms", "w, d, h, m, s"),
        ("1y6mo", "unknown unit y", "w, d, h, m, s"),
        ("12h1d", "out of order", "1d12h"),
        ("1d1d", "out of order", "each unit comes once"),
        ("36501d", "more than 100 years", "36500d"),
        ("99999w", "more than 100 years", "36500d"),
        ("9999999999999s", "more than 100 years", "36500d"),
    ],
)
def test_what_is_no_duration_is_explained(text: str, message: str, hint: str) -> None:
    """The message starts with the text and says what is wrong, the hint what to write."""
    with pytest.raises(DurationError) as caught:
        parse_duration(text)
    assert caught.value.message.startswith(text)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert str(caught.value) == f"{caught.value.message}; {caught.value.hint}"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (1, "1s"),
        (60, "1m"),
        (604_800, "7d"),
        (129_600, "1d12h"),
        (604_860, "7d1m"),
        (90_061, "1d1h1m1s"),
    ],
)
def test_seconds_are_shown_as_a_duration(seconds: int, text: str) -> None:
    """Days are the largest unit, and units that are zero are left out."""
    assert format_duration(seconds) == text


@given(st.integers(1, MAX_SECONDS))
def test_what_is_shown_can_be_written(seconds: int) -> None:
    """Every duration that is shown parses to the same time."""
    assert parse_duration(format_duration(seconds)) == seconds


@given(st.text(alphabet="0179wdhms.-: Dx") | st.text())
def test_any_text_is_a_duration_or_explained(text: str) -> None:
    """No text makes the parser fail in another way, or gives a time out of bounds."""
    try:
        seconds = parse_duration(text)
    except DurationError:
        return
    assert 1 <= seconds <= MAX_SECONDS


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1_700_000_000,), "2023-11-14T22:13:20Z"),
        ((1_700_000_000.9999,), "2023-11-14T22:13:20Z"),
        ((1_700_000_000, "milliseconds"), "2023-11-14T22:13:20.000Z"),
        ((1_700_000_000.0429, "milliseconds", "+00:00"), "2023-11-14T22:13:20.042+00:00"),
    ],
)
def test_a_moment_is_written_in_utc(arguments: tuple[float, str, str], text: str) -> None:
    """To the second or the millisecond; what is finer is cut off, never rounded up into the future."""
    assert rfc3339(*arguments) == text


@given(st.integers(1, 253_402_300_799))
def test_a_moment_can_be_read_back(seconds: int) -> None:
    """Every second that the calendar has."""
    text = moment(seconds)
    assert text is not None
    assert datetime.fromisoformat(text).timestamp() == seconds


@pytest.mark.parametrize("seconds", [0, -1, 253_402_300_800, 2**63, 10**30])
def test_what_is_no_moment_is_none(seconds: int) -> None:
    """Zero stands for no moment, and a damaged number must not stop an export."""
    assert moment(seconds) is None


def test_nobody_else_writes_moments() -> None:
    """RFC 3339 is written in one place."""
    assert [path.name for path in PACKAGE.rglob("*.py") if "isoformat(" in path.read_text()] == ["times.py"]
