"""A check that the user may not make is a finding."""

from collections.abc import Iterator

from redis.exceptions import ResponseError

from asynq_ttl.existing_keys.doctor.refusals import unless_refused
from asynq_ttl.existing_keys.findings import Finding, Severity

FINE = Finding("x", Severity.FINE, "all is well", "", "")


def test_what_a_check_finds() -> None:
    """It is returned as it is."""
    assert unless_refused("x", "not looked at", lambda: [FINE, FINE]) == [FINE, FINE]


def test_a_refusal() -> None:
    """In place of all that was found; arguments that the server repeats are not shown."""

    def check() -> Iterator[Finding]:
        yield FINE
        raise ResponseError("unknown command 'TIME', with args beginning with: 'secret'")

    (found,) = unless_refused("x", "not looked at", check)
    assert (found.code, found.severity, found.what) == ("x", Severity.NOTICE, "not looked at")
    assert found.why.endswith("unknown command 'TIME'")
