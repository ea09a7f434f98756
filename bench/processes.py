"""What a process has used, from /proc: CPU time and memory, its children included.

Source of the formats: proc(5).
"""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU time, in seconds."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        """Both together."""
        return self.user + self.system

    def __sub__(self, before: "Cpu") -> "Cpu":
        return Cpu(self.user - before.user, self.system - before.system)


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory, in KiB."""

    now: int
    peak: int


def cpu(process: int) -> Cpu:
    """Return the CPU time that a process and its living children have used so far.

    Args:
        process: its ID.
    """
    used = [_ticks(each) for each in _tree(process)]
    return Cpu(sum(user for user, _ in used) / _TICKS, sum(system for _, system in used) / _TICKS)


def memory(process: int) -> Memory:
    """Return the resident memory of a process and its children, now and at its highest (the sum of each one's peak).

    Args:
        process: its ID.
    """
    fields = [_status(each) for each in _tree(process)]
    return Memory(sum(field["VmRSS"] for field in fields), sum(field["VmHWM"] for field in fields))


def _tree(process: int) -> list[int]:
    """Return the process and all that descend from it."""
    found = [process]
    for each in found:
        for thread in Path(f"/proc/{each}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _ticks(process: int) -> tuple[int, int]:
    # The name in parentheses may hold spaces; utime and stime are fields 14 and 15, counted from 1.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def _status(process: int) -> dict[str, int]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines)
    return {name: int(value.split()[0]) for name, value in pairs if name in {"VmRSS", "VmHWM"}}
