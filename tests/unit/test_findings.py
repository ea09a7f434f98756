import pytest

from asynq_ttl.ailments import AILMENTS, finding
from asynq_ttl.findings import Finding, Severity, worst


def test_the_exit_status_is_that_of_the_worst() -> None:
    """Notices need nothing done."""
    found = [Finding("a", severity, "", "", "") for severity in (Severity.NOTICE, Severity.DANGER, Severity.WARNING)]
    assert worst(found) is Severity.DANGER
    assert [severity.status for severity in sorted(Severity)] == [0, 0, 3, 4]
    assert worst([]) is Severity.FINE


@pytest.mark.parametrize("code", AILMENTS)
def test_every_ailment_says_what_why_and_what_to_do(code: str) -> None:
    """In a few words each."""
    found = finding(code, 3, ["x"])
    assert (found.code, found.count, found.examples) == (code, 3, ["x"])
    assert all(10 < len(text) < 200 for text in (found.what, found.why, found.advice))
    assert found.severity > Severity.FINE
