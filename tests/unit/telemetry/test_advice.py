"""What a log line says of a command that failed open."""

import pytest

from asynq_ttl.events import FailedOpen, FailOpen
from asynq_ttl.telemetry.advice import line_of


@pytest.mark.parametrize(
    ("failure", "begins"),
    [
        (
            FailedOpen(FailOpen.SHAPE, "why", 1, "unknown", "ab" * 20, "mail", "id-1"),
            f"failed open (shape): unknown script {'ab' * 20} of queue mail was forwarded untouched: why; what to do: ",
        ),
        (
            FailedOpen(FailOpen.UNSEEN, "why", 1, "", "ab" * 20, "mail"),
            f"failed open (unseen): unknown script {'ab' * 20} of queue mail was forwarded untouched: why; ",
        ),
        (FailedOpen(FailOpen.INTERNAL, "why", 1), "failed open (internal): a command was forwarded untouched: why; "),
    ],
)
def test_a_line_names_script_and_queue(failure: FailedOpen, begins: str) -> None:
    """As far as they are known; never the task."""
    line = line_of(failure)
    assert line.startswith(begins)
    assert "id-1" not in line


@pytest.mark.parametrize("reason", FailOpen)
def test_every_line_says_what_to_do(reason: FailOpen) -> None:
    """Whatever the reason is."""
    assert line_of(FailedOpen(reason, "why", 1)).rpartition("what to do: ")[2]
