"""What `audit` and `doctor` find: each finding says what it is, why it matters and what to do. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is, and the exit status of a command whose worst finding it is."""

    FINE = 0
    """All is well: a check that was passed."""
    NOTICE = 1
    """Worth knowing; nothing has to be done."""
    WARNING = 3
    """Something is wrong or wastes memory; nothing is lost yet."""
    DANGER = 4
    """Tasks can be lost, or are."""

    @property
    def status(self) -> int:
        """The exit status: 0 for what needs nothing done, else 3 or 4."""
        return int(self) if self >= Severity.WARNING else 0

    @property
    def color(self) -> str:
        """The colour it has on a terminal."""
        return {Severity.FINE: "green", Severity.NOTICE: "cyan", Severity.WARNING: "yellow"}.get(self, "bold red")


@dataclass(slots=True)
class Finding:
    """One finding.

    Attributes:
        code: its name, the same in every version.
        severity: how bad it is.
        what: what was found, without the count.
        why: why it matters.
        advice: what to do.
        count: how many there are; 0 where that says nothing.
        examples: some of them.
    """

    code: str
    severity: Severity
    what: str
    why: str
    advice: str
    count: int = 0
    examples: list[str] = field(default_factory=list)


def worst(findings: Iterable[Finding]) -> Severity:
    """Return the severity of the worst finding; `FINE` where there is none."""
    return max((finding.severity for finding in findings), default=Severity.FINE)
