"""What a policy would do with the tasks a sidecar has seen, beside what the policy in force does. Pure.

The tasks come as counts by kind: queue, type, state and Asynq's own retention. Any policy can be asked about them.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from asynq_ttl.policy.rules import TERMINAL, Mode, Policy, State
from asynq_ttl.times import format_duration

# How soon a task's memory is free again: at most so many seconds after it enters the state.
HORIZONS = (0, 3_600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
NO_RULE = "(no rule: as Asynq)"
FORECAST_SECONDS = 30 * 86_400
"""How far a forecast looks ahead."""


@dataclass(slots=True)
class Freed:
    """Bytes by how soon they are free again: one number for each horizon, then later, then never."""

    size_bytes: list[int] = field(default_factory=lambda: [0] * (len(HORIZONS) + 2))

    def add(self, kept_seconds: int | None, size_bytes: int) -> None:
        """Count a task's bytes, which are free after so many seconds; None for never."""
        if kept_seconds is None:
            self.size_bytes[-1] += size_bytes
            return
        position = next((number for number, limit in enumerate(HORIZONS) if kept_seconds <= limit), len(HORIZONS))
        self.size_bytes[position] += size_bytes


@dataclass(slots=True)
class Ahead:
    """What is there in `FORECAST_SECONDS`, if tasks go on to come as they did: how many, and bytes of messages."""

    tasks: float = 0.0
    size_bytes: float = 0.0

    def add(self, kept_seconds: int | None, tasks: float, size_bytes: float) -> None:
        """Count tasks that come in each second, and are kept for so many; None for ever."""
        stay = FORECAST_SECONDS if kept_seconds is None else min(kept_seconds, FORECAST_SECONDS)
        self.tasks += tasks * stay
        self.size_bytes += size_bytes * stay


@dataclass(slots=True)
class Line:
    """What one rule of the policy does.

    Attributes:
        rule: its name.
        state: the state the tasks enter.
        kept: for how long it keeps them, in words.
        tasks: how many tasks.
        size_bytes: the bytes of their messages.
        byte_seconds: bytes times the seconds they are kept; None where some are kept for ever.
        byte_seconds_in_force: the same under the policy in force.
        ahead: what of its tasks is there in `FORECAST_SECONDS`, if they go on to come as they did.
        ahead_in_force: the same under the policy in force.
    """

    rule: str
    state: str
    kept: str
    tasks: int = 0
    size_bytes: int = 0
    byte_seconds: int | None = 0
    byte_seconds_in_force: int | None = 0
    ahead: Ahead = field(default_factory=Ahead)
    ahead_in_force: Ahead = field(default_factory=Ahead)

    def add(self, tasks: int, size_bytes: int, kept: int | None, kept_in_force: int | None, seconds: float) -> None:
        """Count tasks.

        Args:
            tasks: how many.
            size_bytes: the bytes of their messages.
            kept: for how many seconds the policy keeps them; None for ever.
            kept_in_force: for how many the one in force does.
            seconds: in how many they came.
        """
        self.ahead.add(kept, tasks / seconds, size_bytes / seconds)
        self.ahead_in_force.add(kept_in_force, tasks / seconds, size_bytes / seconds)
        self.tasks += tasks
        self.size_bytes += size_bytes
        self.byte_seconds = _plus(self.byte_seconds, kept, size_bytes)
        self.byte_seconds_in_force = _plus(self.byte_seconds_in_force, kept_in_force, size_bytes)


@dataclass(slots=True)
class PolicyReport:
    """What a policy does with the tasks that were seen, by rule and by when their memory is free again.

    Attributes:
        lines: by rule and state, in the order of the policy.
        freed: bytes by when they are free, under the policy.
        freed_in_force: the same under the policy in force.
        tasks: tasks that were told apart.
        others: tasks that were not: their types are not known.
    """

    lines: list[Line]
    freed: Freed
    freed_in_force: Freed
    tasks: int
    others: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        names = list(horizons())
        return {
            "tasks": self.tasks,
            "others": self.others,
            "rules": [asdict(line) for line in self.lines],
            "freed_bytes": dict(zip(names, self.freed.size_bytes, strict=True)),
            "freed_bytes_in_force": dict(zip(names, self.freed_in_force.size_bytes, strict=True)),
        }


def compare(census: dict[str, Any], policy: Policy, in_force: Policy | None) -> PolicyReport:
    """Return what a policy does with the tasks of a census.

    Args:
        census: the counts, as a sidecar answers to `/api/census`.
        policy: the policy that is asked about, as if it were enforced for all tasks.
        in_force: the policy in force; None where Asynq's own times are, as in shadow mode.
    """
    lines: dict[tuple[str, str], Line] = {}
    for rule in policy.rules:
        for state in TERMINAL:
            said = rule.says(state)
            if said is not None:
                lines[rule.name, state.value] = Line(rule.name, state.value, said.text)
    freed, freed_in_force, tasks = Freed(), Freed(), 0
    for kind in census["kinds"]:
        state = State(kind["state"])
        rule_name, kept = _verdict(policy, kind, state)
        _, kept_in_force = _verdict(in_force, kind, state)
        line = lines.setdefault((rule_name, state.value), Line(rule_name, state.value, "keep"))
        line.add(kind["tasks"], kind["size_bytes"], kept, kept_in_force, max(census["seconds"], 1))
        freed.add(kept, kind["size_bytes"])
        freed_in_force.add(kept_in_force, kind["size_bytes"])
        tasks += kind["tasks"]
    return PolicyReport(list(lines.values()), freed, freed_in_force, tasks, census["others"]["tasks"])


def policy_in_force(policy: Policy, mode: str) -> Policy | None:
    """Return the policy by which tasks are really kept; None for Asynq's own times."""
    return policy if Mode(mode) is Mode.ENFORCE else None


def horizons() -> Iterable[str]:
    """Yield the names of the numbers in `Freed`."""
    yield "at once"
    yield from (f"within {format_duration(limit)}" for limit in HORIZONS[1:])
    yield "later"
    yield "never"


def _verdict(policy: Policy | None, kind: dict[str, Any], state: State) -> tuple[str, int | None]:
    """Return the rule that decides about a kind of task, and for how many seconds it is kept; None for ever."""
    verdict = policy.decide(kind["queue"], kind["type"], state) if policy is not None else None
    if verdict is None:
        return NO_RULE, kind["own_seconds"]
    return verdict.rule, verdict.retention.resolve(kind["own_seconds"])


def _plus(total: int | None, kept_seconds: int | None, size_bytes: int) -> int | None:
    return None if total is None or kept_seconds is None else total + kept_seconds * size_bytes
