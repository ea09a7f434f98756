"""Holds the ledger of a load against what is in Redis, and tells where every accepted task is.

What is proved:

* A task that replicas had (it is *acknowledged*), and one that was accepted after the failover, is there in a state
  that a task may be in, or it was worked off and is one that Asynq deletes then. None is missing.
* A task that was accepted before the failover, and that no replica is known to have had, may be missing: Redis
  replicates without waiting. Such tasks are counted.
* Index and hash agree about every task. A live task has no TTL, a terminal one that of its rule.
* When all is over, every task has ended as its kind ends, and nothing is pending, active or waiting for a retry.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from trials.chaos.census import Census, Fault

# How a task ends that Asynq deletes when it was worked off.
_GONE = "gone"


@dataclass(frozen=True, slots=True)
class Accepted:
    """An accepted task: when its producer was told so, how it is to end, and whether replicas had it."""

    at_ms: int
    ends: str
    acknowledged: bool


@dataclass(slots=True)
class Ledger:
    """What a load has noted.

    Attributes:
        accepted: by task ID.
        refusals: when producers were refused, milliseconds since the epoch, and why.
        starts: when attempts began, milliseconds since the epoch, in order.
        outcomes: by task ID, how its attempts ended.
    """

    accepted: dict[str, Accepted] = field(default_factory=dict)
    refusals: list[tuple[int, str]] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    outcomes: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def repeated(self) -> int:
        """How many tasks were run more than once."""
        return sum(outcomes.total() > 1 for outcomes in self.outcomes.values())

    def standstill_seconds(self, from_ms: int) -> float:
        """Return the longest time without a new attempt that was not over at some moment."""
        pairs = zip(self.starts, self.starts[1:], strict=False)
        return max((later - earlier for earlier, later in pairs if later > from_ms), default=0) / 1000


def read(path: Path) -> Ledger:
    """Read a ledger; its last line may be one that is just being written."""
    ledger = Ledger()
    content = path.read_text() if path.exists() else ""
    for line in content[: content.rfind("\n") + 1].splitlines():
        entry = json.loads(line)
        match entry["event"]:
            case "accepted":
                acknowledged = entry.get("acknowledged", False)
                ledger.accepted[entry["id"]] = Accepted(entry["at_ms"], entry["ends"], acknowledged)
            case "refused":
                ledger.refusals.append((entry["at_ms"], entry["error"]))
            case "start":
                ledger.starts.append(entry["at_ms"])
            case "end":
                ledger.outcomes[entry["id"]][entry["outcome"]] += 1
    ledger.starts.sort()
    return ledger


@dataclass(frozen=True, slots=True)
class Account:
    """Where the accepted tasks are: how many in which state or `gone`; those that Redis has lost; what is wrong."""

    places: Counter[str]
    unreplicated: list[str]
    faults: list[Fault]


def settle(
    ledger: Ledger, census: Census, *, moved_ms: int, kept: Callable[[str, str], int | None], grace: int, over: bool
) -> Account:
    """Account for every accepted task.

    Args:
        ledger: what was accepted before the look at Redis, and how attempts ended until after it.
        census: the look at Redis.
        moved_ms: when the new master was the master for everybody, milliseconds since the epoch.
        kept: says how long the policy keeps a task, as in `Census.faults`.
        grace: the policy's, seconds.
        over: whether every task must have ended.
    """
    places: Counter[str] = Counter()
    unreplicated: list[str] = []
    faults = census.faults(kept, grace)
    for task_id, accepted in ledger.accepted.items():
        task = census.tasks.get(task_id)
        if task is not None:
            places[task.state] += 1
            if over and task.state != accepted.ends:
                faults.append(Fault("unended", census.queue, task_id, f"{task.state}, but it ends {accepted.ends}"))
        elif accepted.ends == _GONE and ledger.outcomes[task_id]["ok"]:
            places[_GONE] += 1
        elif accepted.acknowledged or accepted.at_ms > moved_ms:
            why = "the replica had it" if accepted.acknowledged else "accepted after the failover"
            faults.append(Fault("lost", census.queue, task_id, why))
        else:
            unreplicated.append(task_id)
    if over and census.unfinished:
        faults.append(Fault("unfinished", census.queue, "", f"{census.unfinished} tasks are in no terminal state"))
    return Account(places, unreplicated, faults)
