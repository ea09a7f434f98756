import pytest

from asynq_ttl.policy_file.faults import Fault, PolicyError, failure, shown


def test_a_fault_is_printed_on_one_line() -> None:
    """What a file holds cannot break the lines of a terminal or a log."""
    assert str(Fault("a\nb", 3, "x\x1b[31m", "")) == "a\ufffdb:3: x\ufffd[31m"
    assert str(Fault("f", 0, "message", "hint")) == "f: message; hint"


def test_the_error_has_a_line_for_each_fault() -> None:
    """In the order in which they were given; the faults themselves are there too."""
    faults = (Fault("f", 1, "one"), Fault("f", 2, "two", "hint"))
    error = PolicyError(faults)
    assert str(error) == "f:1: one\nf:2: two; hint"
    assert error.faults == faults


def test_a_fault_that_ends_everything_is_an_error_of_its_own() -> None:
    """With the one fault in it."""
    assert failure("f", 7, "this is not YAML", "look").faults == (Fault("f", 7, "this is not YAML", "look"),)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        ({}, "a mapping"),
        ([1], "a list"),
        (7, "7"),
        ("x" * 60, "x" * 60),
        ("x" * 61, "x" * 57 + "..."),
    ],
)
def test_a_value_is_shown_as_it_was_written(value: object, text: str) -> None:
    """What would fill a line is cut off, what is no scalar is told by its kind."""
    assert shown(value) == text
