"""Whether a running sidecar writes all that it decides to its decision log: what it says of that. Asks nobody."""

from collections.abc import Mapping
from typing import Any

from asynq_ttl.existing_keys.findings import Finding, Severity


def check(told: Mapping[str, Any] | None) -> list[Finding]:
    """Say whether the decision log is whole.

    Args:
        told: the sidecar's `decision_log` of `/api/status`; None where it has none.
    """
    if told is None:
        return []
    problem, dropped = told["problem"], told["dropped"]
    if not problem and not dropped:
        return [Finding("decision-log", Severity.FINE, f"the decision log {told['file']} is written", "", "")]
    what = problem or f"the decision log {told['file']} lacks entries, since there was no room for them"
    why = "`asynq-ttl why` cannot say what became of tasks whose entries are missing"
    advice = "free its disk, give it its folder and rights, or name another file by --decisions"
    return [Finding("decision-log", Severity.WARNING, what, why, advice, count=dropped)]
