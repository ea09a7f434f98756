"""How sentences name things: nothing that a client chose can be mistaken for the sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.existing_keys.why.words import about, at, from_now, listed, place, shown


@given(st.text())
def test_a_text_is_one_word_or_in_quotes(text: str) -> None:
    """Printable, so that it does nothing to a terminal, and without an end of its own."""
    word = shown(text)
    assert word.isprintable()
    assert word.startswith('"') or not set(word) & set(" \"'(),;\\")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mail:send", "mail:send"),
        ("a b", '"a b"'),
        ('q"', '"q\\""'),
        ("", '""'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ("\udcff", '"\\udcff"'),
        ("x" * 1_000, "x" * 300 + "…"),
    ],
)
def test_words(text: str, word: str) -> None:
    """Plain ones stay as they are; long ones are cut off."""
    assert shown(text) == word


def test_moments_and_durations() -> None:
    """To two units, and whatever number Redis holds."""
    assert from_now(1_700_000_090, 1_700_000_000) == "2023-11-14T22:14:50Z (in 1m30s)"
    assert from_now(1_699_900_000, 1_700_000_000) == "2023-11-13T18:26:40Z (1d3h ago)"
    assert about(93_784) == "1d2h"
    assert about(-5) == "0s"
    assert at(2.0**60) == at(-1) == at(float("inf")) == "a time that no calendar has"
    assert from_now(float("inf"), 0).startswith("a time that no calendar has (in ")
    assert from_now(float("-inf"), 10).startswith("a time that no calendar has (10s ago")


def test_lists() -> None:
    """As people write them."""
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


def test_a_place() -> None:
    """The queue's name is one word; database 0 goes without saying."""
    assert place("mail", 0) == place("mail", None) == "queue mail"
    assert place("a b", 3) == 'queue "a b" of database 3'
