import pytest

from asynq_ttl.existing_keys.audit.problems import PROBLEMS, finding_of
from asynq_ttl.existing_keys.findings import Severity


@pytest.mark.parametrize("code", PROBLEMS)
def test_every_problem_says_what_why_and_what_to_do(code: str) -> None:
    """In a few words each."""
    found = finding_of(code, 3, ["x"])
    assert (found.code, found.count, found.examples) == (code, 3, ["x"])
    assert all(10 < len(text) < 200 for text in (found.what, found.why, found.advice))
    assert found.severity > Severity.FINE
