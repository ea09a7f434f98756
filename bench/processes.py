"""What a process has used, from /proc: CPU time and memory, its children included.

Source of the formats: proc(5).
"""

import os
from collections.abc import Iterable
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


def cpu(*processes: int) -> Cpu:
    """Return the CPU time that processes and their living children have used so far.

    Args:
        processes: their IDs.
    """
    used = [_ticks(each) for each in _tree(processes)]
    return Cpu(sum(user for user, _ in used) / _TICKS, sum(system for _, system in used) / _TICKS)


def memory(*processes: int) -> Memory:
    """Return the resident memory of processes and their children, now and at its highest (the sum of each one's peak).

    Args:
        processes: their IDs.
    """
    fields = [_status(each) for each in _tree(processes)]
    return Memory(sum(field["VmRSS"] for field in fields), sum(field["VmHWM"] for field in fields))


def _tree(processes: Iterable[int]) -> list[int]:
    """Return the processes and all that descend from them."""
    found = list(processes)
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
