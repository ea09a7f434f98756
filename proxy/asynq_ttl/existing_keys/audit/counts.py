"""What an audit counts: numbers by queue and state that add up page by page, and that a checkpoint can hold. Pure.

Invariant: memory is bounded by the number of queues, states and days, never by that of tasks.

The bytes of a group are estimated. The sizes of all messages and results are known; what a key takes beyond them
(`MEMORY USAGE` minus content) is measured for a sample of the tasks. That excess varies little, so the estimate is
close even where payloads differ a thousandfold.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

AGE_LIMITS = (3_600, 6 * 3_600, 86_400, 3 * 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
"""Upper ends of the columns of ages, in seconds; the last column has none."""
AGE_NAMES = ("< 1h", "< 6h", "< 1d", "< 3d", "< 7d", "< 30d", "< 90d", "older")
# The first tasks of a group are all measured, then one of so many. SCAN's order has nothing to do with the sizes, so
# that is a fair sample.
_SAMPLED_FIRST, _SAMPLED_THEN = 100, 50
# Two-sided 95 % of a normal distribution.
_CONFIDENCE = 1.96
NEVER = 1 << 40
"""A number of days, or of seconds, that never comes."""
_EXAMPLES = 5


@dataclass(slots=True)
class DayCounts:
    """Tasks and their bytes by the day on which they end, or by how many seconds they live.

    Attributes:
        by_day: number of tasks and bytes, by day or seconds; `NEVER` for those that do not end.
    """

    by_day: dict[int, list[float]] = field(default_factory=dict)

    def add(self, day: int, content: float, count: float = 1) -> None:
        """Count a task, or several or a part of one, with so many bytes of content."""
        found = self.by_day.setdefault(day, [0, 0])
        found[0] += count
        found[1] += content

    def merge(self, other: "DayCounts") -> None:
        """Add what another one has counted."""
        for day, (count, content) in other.by_day.items():
            self.add(day, content, count)

    def items(self) -> Iterator[tuple[int, float, float]]:
        """Yield day or seconds, number of tasks and bytes."""
        for day, (count, content) in self.by_day.items():
            yield day, count, content


@dataclass(slots=True)
class Group:
    """The tasks of one queue in one state.

    Attributes:
        tasks: how many.
        timed: how many have a TTL.
        orphans: how many are in no list or index.
        locks: how many hold their uniqueness lock.
        held: how many are held.
        content: bytes of messages and results.
        sampled: how many were measured.
        excess: bytes that the measured keys take beyond their content.
        squares: the sum of the squares of each one's excess.
        ages: tasks by the columns of `AGE_LIMITS`; a task of unknown age is in none.
        oldest: the greatest age, in seconds.
        own, policy: the days from now on which the tasks end, under Asynq alone and under the policy.
        lives: of the tasks that became terminal in the last days, how many seconds they live under the policy, by how
            many under Asynq alone.
    """

    tasks: int = 0
    timed: int = 0
    orphans: int = 0
    locks: int = 0
    held: int = 0
    content: int = 0
    sampled: int = 0
    excess: float = 0.0
    squares: float = 0.0
    ages: list[int] = field(default_factory=lambda: [0] * len(AGE_NAMES))
    oldest: int = 0
    own: DayCounts = field(default_factory=DayCounts)
    policy: DayCounts = field(default_factory=DayCounts)
    lives: dict[int, DayCounts] = field(default_factory=dict)

    def add_task(self, content: int, *, timed: bool, locked: bool) -> None:
        """Count a task: the bytes of its content, whether its key has a TTL, whether it holds its uniqueness lock."""
        self.tasks += 1
        self.content += content
        self.timed += timed
        self.locks += locked

    def add_held(self) -> None:
        """Count a task that is held."""
        self.held += 1

    def add_arrival(self, own: int, policy: int, content: int) -> None:
        """Count a task of the last days: the seconds it lives under Asynq alone and under the policy, and its bytes."""
        self.lives.setdefault(own, DayCounts()).add(policy, content)

    def add_orphan(self) -> None:
        """Count a task that is in no list or index."""
        self.orphans += 1

    def wants_sample(self) -> bool:
        """Say whether the key of the task that was counted last is to be measured."""
        return self.tasks <= _SAMPLED_FIRST or self.tasks % _SAMPLED_THEN == 0

    def add_sample(self, usage: int, content: int) -> None:
        """Count a key that was measured: the bytes it takes, and those of its content."""
        self.sampled += 1
        self.excess += usage - content
        self.squares += float(usage - content) ** 2

    def add_age(self, seconds: int) -> None:
        """Count the age of a task."""
        place = next((number for number, limit in enumerate(AGE_LIMITS) if seconds < limit), len(AGE_LIMITS))
        self.ages[place] += 1
        self.oldest = max(self.oldest, seconds)

    @property
    def mean_excess(self) -> float:
        """Bytes that a key takes beyond its content, on average over those that were measured."""
        return self.excess / self.sampled if self.sampled else 0.0

    @property
    def bytes(self) -> int:
        """The bytes that the task keys take, estimated."""
        return round(self.content + self.mean_excess * self.tasks)

    @property
    def error_bytes(self) -> int:
        """The half-width of the 95 % confidence interval of `bytes`."""
        if self.sampled < 2 or self.sampled >= self.tasks:
            return 0
        variance = max(self.squares - self.excess**2 / self.sampled, 0.0) / (self.sampled - 1)
        unseen = 1 - self.sampled / self.tasks
        return round(_CONFIDENCE * math.sqrt(variance * unseen / self.sampled) * self.tasks)


@dataclass(slots=True)
class Tally:
    """All that an audit has counted so far.

    Attributes:
        groups: by queue and state; the state is empty for hashes without one.
        problems: how often each was met, by its code in `problems.PROBLEMS`.
        examples: some keys or IDs with each of them.
        indexes: bytes of the lists and indexes, by queue.
        keys: how many keys of Asynq there are.
        other_keys: how many of those are not tasks.
        histories: how many of those are histories of scheduler entries.
        timed_histories: how many of these have a TTL.
    """

    groups: dict[tuple[str, str], Group] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)
    keys: int = 0
    other_keys: int = 0
    histories: int = 0
    timed_histories: int = 0

    def group(self, queue: str, state: str) -> Group:
        """Return the group of a queue and a state, a new one where there is none yet."""
        key = (queue, state)
        if key not in self.groups:
            self.groups[key] = Group()
        return self.groups[key]

    def add_keys(self, keys: int, tasks: int) -> None:
        """Count keys of Asynq, so many of which are tasks."""
        self.keys += keys
        self.other_keys += keys - tasks

    def add_history(self, *, timed: bool) -> None:
        """Count the history of a scheduler entry."""
        self.histories += 1
        self.timed_histories += timed

    def measure_indexes(self, queues: Iterable[str], sizes: Iterable[tuple[str, int]]) -> None:
        """Take down the bytes of the lists and indexes of queues: sizes by queue, several for one."""
        self.indexes = dict.fromkeys(queues, 0)
        for queue, size in sizes:
            self.indexes[queue] += size

    def add_problem(self, code: str, example: str, count: int = 1) -> None:
        """Count a problem, and keep the first few examples of it."""
        self.problems[code] = self.problems.get(code, 0) + count
        shown = self.examples.setdefault(code, [])
        if len(shown) < _EXAMPLES and example not in shown:
            shown.append(example)

    def dump(self) -> dict[str, Any]:
        """Return it as plain data, for a checkpoint."""
        content = asdict(self)
        content["groups"] = [[*key, asdict(group)] for key, group in self.groups.items()]
        return content


def load_tally(content: dict[str, Any]) -> Tally:
    """Return a tally from what `Tally.dump` returned. Other data raise KeyError, TypeError or ValueError."""
    groups = {}
    for queue, state, numbers in content["groups"]:
        for name in ("own", "policy"):
            numbers[name] = _load_days(numbers[name])
        numbers["lives"] = {int(own): _load_days(counts) for own, counts in numbers["lives"].items()}
        groups[queue, state] = Group(**numbers)
    names = ("problems", "examples", "indexes", "keys", "other_keys", "histories", "timed_histories")
    return Tally(groups, *(content[name] for name in names))


def _load_days(content: dict[str, Any]) -> DayCounts:
    return DayCounts({int(day): counts for day, counts in content["by_day"].items()})
