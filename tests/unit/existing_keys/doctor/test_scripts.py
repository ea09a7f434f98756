"""What a sidecar says of the scripts that it does not understand, as findings."""

from asynq_ttl.existing_keys.doctor.scripts import check
from asynq_ttl.existing_keys.findings import Severity


def test_a_check_that_is_passed() -> None:
    """A person sees that it was made."""
    (found,) = check([])
    assert found.severity is Severity.FINE


def test_each_script_by_its_first_line() -> None:
    """Worth knowing; nothing is lost by it."""
    (found,) = check([("ab" * 20, "by effect", "-- ours"), ("cd" * 20, "not at all", "return 1")])
    assert (found.severity, found.count) == (Severity.NOTICE, 2)
    assert found.examples == [
        f"{'ab' * 20} (wrapped by effect): -- ours",
        f"{'cd' * 20} (wrapped not at all): return 1",
    ]
