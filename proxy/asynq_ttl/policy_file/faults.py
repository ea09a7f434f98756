"""What is wrong with a policy file: one `Fault` for each thing, and `PolicyError`, which holds them all.

Every message fits on one printable line, whatever the file holds.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a policy file.

    Attributes:
        source: the file's name.
        line: where it is, from 1; 0 for the file as a whole.
        message: what is wrong.
        hint: what to do about it.
    """

    source: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        text = f"{place}: {self.message}" + (f"; {self.hint}" if self.hint else "")
        return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


class PolicyError(Exception):
    """A policy file is not valid. Its text is one line for each fault, in the order of the file."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def failure(source: str, line: int, message: str, hint: str) -> PolicyError:
    """Return the error for a fault after which nothing more can be said about the file."""
    return PolicyError((Fault(source, line, message, hint),))


def shown(value: object) -> str:
    """Return a value as it stands in a message: a scalar as text, cut off after 60 characters."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
