"""Where a walk through all keys of a cluster stands, as a text that outlasts the run. Pure.

The masters are walked through one after the other, each by its own SCAN.

Invariants:

* Nodes and slots are named, never addresses. A cursor of SCAN is of use to the run of the node that gave it alone; for
  any other, that part of the walk begins anew.
* A slot is done once it has been walked through where it was all the time.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

Slots = frozenset[int]
_NONE = "-"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a walk stands.

    Attributes:
        scan: the cursor of the node's SCAN; 0 at the beginning of its part.
        node: the ID of the node.
        run: the ID of the run of its server; empty where that is not told.
        slots: those that are walked through there.
        done: those that have been.
    """

    scan: int
    node: str
    run: str
    slots: Slots
    done: Slots = frozenset()

    def __str__(self) -> str:
        return f"{self.scan} {self.node} {self.run or _NONE} {_text_of(self.slots)} {_text_of(self.done)}"


def parse_stage(text: str) -> Stage:
    """Read such a text.

    Raises:
        ValueError: it is none.
    """
    scan, node, run, slots, done = text.split(" ")
    return Stage(int(scan), node, "" if run == _NONE else run, _slots(slots), _slots(done))


def ranges_of(slots: Iterable[int]) -> str:
    """Return slots as text, such as `0-99,200`."""
    found: list[list[int]] = []
    for slot in sorted(slots):
        if found and found[-1][1] == slot - 1:
            found[-1][1] = slot
        else:
            found.append([slot, slot])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


@lru_cache(maxsize=4)  # the same ones at each step through a node
def _text_of(slots: Slots) -> str:
    return ranges_of(slots) or _NONE


def _slots(text: str) -> Slots:
    if text == _NONE:
        return frozenset()
    ranges = (part.partition("-") for part in text.split(","))
    return frozenset(slot for first, _, last in ranges for slot in range(int(first), int(last or first) + 1))
