"""Linear expressions of one ARGV."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asynq_ttl.asynq.linear import Linear, linear


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ARGV[5]", Linear(5, 1, 0)),
        ("-ARGV[12]", Linear(12, -1, 0)),
        ("-(ARGV[5]+1)", Linear(5, -1, -1)),
        ("-tonumber(ARGV[5])-1", Linear(5, -1, -1)),
        ("-(-(1-ARGV[2])-3)", Linear(2, -1, 4)),
        ("ARGV[5]+ARGV[5]", Linear(5, 2, 0)),
        ("-1-(ARGV[3])", Linear(3, -1, -1)),
    ],
)
def test_what_is_linear(expression: str, expected: Linear) -> None:
    """Signs go through parentheses."""
    assert linear(expression) == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "5",
        "-1",
        "ARGV[0]",
        "ARGV[123]",
        "ARGV[1]*2",
        "ARGV[1]+ARGV[2]",
        "ARGV[1]-ARGV[1]",
        "KEYS[1]",
        "max",
        "-x-ARGV[1]",
    ],
)
def test_what_is_not(expression: str) -> None:
    """Another number of ARGV, a product, or what is not known."""
    assert linear(expression) is None


@given(st.text("-+()ARGV[]123 tonumber", max_size=30))
def test_no_text_raises(text: str) -> None:
    """Whatever it is."""
    linear(text)
