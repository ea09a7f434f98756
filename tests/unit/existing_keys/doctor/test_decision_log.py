"""What a sidecar says of its decision log, as a finding."""

import pytest

from asynq_ttl.existing_keys.doctor import decision_log
from asynq_ttl.existing_keys.findings import Severity


@pytest.mark.parametrize(
    ("problem", "dropped", "severity", "said"),
    [
        ("", 0, Severity.FINE, "the decision log /x is written"),
        ("the decision log /x cannot be written: No space", 0, Severity.WARNING, "No space"),
        ("", 7, Severity.WARNING, "lacks entries"),
    ],
)
def test_the_decision_log(problem: str, dropped: int, severity: Severity, said: str) -> None:
    """What is missing in it is missing for `why`."""
    (found,) = decision_log.check({"file": "/x", "problem": problem, "dropped": dropped})
    assert (found.severity, found.count) == (severity, dropped)
    assert said in found.what


def test_without_one_there_is_nothing_to_find() -> None:
    """A decision log is no duty."""
    assert decision_log.check(None) == []
