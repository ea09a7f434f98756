"""What `audit` and `doctor` find, as data, as JSON and as text: what it is, why it matters and what to do.

A problem is something that can be wrong, by its name; a finding is what one run found, be it a check that was passed.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import Any

from rich.console import Console


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


@dataclass(frozen=True, slots=True)
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


def as_data(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Return findings as plain data for JSON, severities by their names."""
    return [{**asdict(found), "severity": found.severity.name.lower()} for found in findings]


def findings_json(upstream: str, findings: list[Finding]) -> str:
    """Return findings as JSON, with the database they are about."""
    content = {"upstream": upstream, "severity": worst(findings).name.lower(), "findings": as_data(findings)}
    return json.dumps(content, indent=2)


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print findings, each with why it matters and what to do."""
    if not findings:
        console.print("Nothing is wrong.")
    for found in findings:
        count = f"{found.count:,} " if found.count else ""
        console.print()
        console.print(f"[{found.severity.color}]{found.severity.name.lower()}[/] ", end="")
        console.print(f"{count}{visible(found.what)} ({found.code})", highlight=False, markup=False, soft_wrap=True)
        for label, text in (("why", found.why), ("do", found.advice), ("such as", "; ".join(found.examples))):
            if text:
                console.print(f"  {label}: {visible(text)}", highlight=False, markup=False, soft_wrap=True)


def visible(text: str) -> str:
    """Return a text with `?` for each character that a terminal would obey, or could not show."""
    return "".join(character if character.isprintable() else "?" for character in text)
