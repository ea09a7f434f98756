"""Whether a running sidecar understands the scripts that end tasks: what it says of them, as findings. Asks nobody."""

from collections.abc import Iterable

from asynq_ttl.existing_keys.findings import Finding, Severity


def check(not_understood: Iterable[tuple[str, str, str]]) -> list[Finding]:
    """Say which scripts a sidecar does not understand.

    Args:
        not_understood: the SHA of each, how it is wrapped ("by effect", "not at all"), and its first line.
    """
    each = [f"{sha} (wrapped {wrapped}): {first_line}" for sha, wrapped, first_line in not_understood]
    if not each:
        return [Finding("scripts", Severity.FINE, "the sidecar understands all scripts that it has seen", "", "")]
    return [
        Finding(
            "scripts",
            Severity.NOTICE,
            "scripts end tasks in a way that the sidecar does not understand",
            "their own trims go on, whatever `max` says; those that are not wrapped leave their tasks to the sweeper",
            "if they are a fork's or a newer Asynq's, open an issue with the script",
            count=len(each),
            examples=each,
        )
    ]
