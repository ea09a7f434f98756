"""What becomes of a check that the user may not make: a finding, which keeps none of the others from being made."""

from collections.abc import Callable, Iterable

from redis.exceptions import ResponseError

from asynq_ttl.existing_keys.findings import Finding, Severity


def unless_refused(code: str, undone: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """Return what a check finds, or that the user may not make it."""
    try:
        return list(check())
    except ResponseError as error:
        # Of an unknown command Redis repeats the arguments.
        why = f"the server refuses what is needed for that: {str(error).partition(', with args')[0]}"
        return [Finding(code, Severity.NOTICE, undone, why, "see the findings about rights")]
