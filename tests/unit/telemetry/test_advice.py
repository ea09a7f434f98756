"""What a log line says of a command that failed open."""

import pytest

from asynq_ttl.events import FailedOpen, FailOpen
from asynq_ttl.telemetry.advice import advice_on, named

SHA = "ab" * 20


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (FailedOpen(FailOpen.SHAPE, "why", 1, "unknown", SHA, "mail", "id-1"), f"unknown script {SHA} of queue mail"),
        (FailedOpen(FailOpen.UNSEEN, "why", 1, "", SHA, "mail"), f"unknown script {SHA} of queue mail"),
        (FailedOpen(FailOpen.SIZE, "why", 1, queue="mail"), "a command of queue mail"),
        (FailedOpen(FailOpen.INTERNAL, "why", 1), "a command"),
    ],
)
def test_script_and_queue_are_named(failure: FailedOpen, expected: str) -> None:
    """As far as they are known; never the task."""
    assert named(failure) == expected


@pytest.mark.parametrize("reason", FailOpen)
def test_there_is_advice_on_every_reason(reason: FailOpen) -> None:
    """Whatever it is."""
    assert advice_on(reason)
