from asynq_ttl.existing_keys.findings import Finding, Severity, worst


def test_the_exit_status_is_that_of_the_worst() -> None:
    """Notices need nothing done."""
    found = [Finding("a", severity, "", "", "") for severity in (Severity.NOTICE, Severity.DANGER, Severity.WARNING)]
    assert worst(found) is Severity.DANGER
    assert [severity.status for severity in sorted(Severity)] == [0, 0, 3, 4]
    assert worst([]) is Severity.FINE
