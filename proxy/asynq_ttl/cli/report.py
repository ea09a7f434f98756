"""`asynq-ttl report`: what a policy would do with the tasks a sidecar has seen, beside what the policy in force does.

The sidecar counts the kinds of tasks that enter a terminal state (`census`); any policy can be asked about them.
"""

import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from asynq_ttl.cli.admin_client import AdminClientError, ask
from asynq_ttl.cli.options import FAILED, admin_option, fail, option
from asynq_ttl.cli.tool_options import load
from asynq_ttl.net import address
from asynq_ttl.policy.rules import Keep, Mode, Policy, State
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.times import format_duration

# How soon a task's memory is free again: at most so many seconds after it enters the state.
HORIZONS = (0, 3_600, 86_400, 7 * 86_400, 30 * 86_400, 90 * 86_400)
UNMATCHED = "(no rule: as Asynq)"


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
    """

    rule: str
    state: str
    kept: str
    tasks: int = 0
    size_bytes: int = 0
    byte_seconds: int | None = 0
    byte_seconds_in_force: int | None = 0

    def add(self, tasks: int, size_bytes: int, kept: int | None, kept_in_force: int | None) -> None:
        """Count tasks that are kept for so many seconds, by the policy and by the one in force; None for ever."""
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
        census: what the admin server answers to `/api/census`.
        policy: the policy that is asked about, as if it were enforced for all tasks.
        in_force: the policy in force; None where Asynq's own times are, as in shadow mode.
    """
    lines: dict[tuple[str, str], Line] = {}
    for rule in policy.rules:
        for state in State:
            if rule.says(state) is not None:
                lines[rule.name, state.value] = Line(rule.name, state.value, _kept(policy, rule.name, state))
    freed, freed_in_force, tasks = Freed(), Freed(), 0
    for kind in census["kinds"]:
        state = State(kind["state"])
        rule_name, kept = _verdict(policy, kind, state)
        _, kept_in_force = _verdict(in_force, kind, state)
        line = lines.setdefault((rule_name, state.value), Line(rule_name, state.value, "keep"))
        line.add(kind["tasks"], kind["size_bytes"], kept, kept_in_force)
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


def tables(report: PolicyReport, policy: Policy, in_force: str, since: str) -> Iterable[Table | str]:
    """Yield the report for people.

    Args:
        report: what to show.
        policy: the policy that was asked about.
        in_force: the name of the policy in force; empty where Asynq's own times are.
        since: when the sidecar began to count.
    """
    beside = f"the policy in force, {in_force}" if in_force else "Asynq's own times, which are in force"
    yield f"What {policy.source} does with the {report.tasks:,} tasks since {since}, beside {beside}:\n"
    by_rule = Table(title="By rule", title_justify="left")
    for heading in ("rule", "tasks entering", "are kept"):
        by_rule.add_column(heading, overflow="fold")
    for heading in ("tasks", "bytes", "mean time kept", "in force"):
        by_rule.add_column(heading, justify="right")
    for line in report.lines:
        means = [_mean(total, line) for total in (line.byte_seconds, line.byte_seconds_in_force)]
        numbers = (f"{line.tasks:,}", f"{line.size_bytes:,}") if line.tasks else ("[yellow]none[/]", "")
        by_rule.add_row(escape(line.rule), line.state, line.kept, *numbers, *means)
    yield by_rule
    freed = Table(title="Bytes free again, after a task enters the state", title_justify="left")
    for heading in ("", "this policy", "in force", "difference"):
        freed.add_column(heading, justify="right" if heading else "left")
    for name, asked, now in zip(horizons(), report.freed.size_bytes, report.freed_in_force.size_bytes, strict=True):
        freed.add_row(name, f"{asked:,}", f"{now:,}", f"{asked - now:+,}" if asked != now else "")
    yield freed
    notes = "Bytes are those of the task messages, without what Redis needs besides. Caps (max) are left out."
    if report.others:
        notes += f" {report.others:,} more tasks were archived in bulk: their types are not known."
    yield notes


def _mean(byte_seconds: int | None, line: Line) -> str:
    if not line.size_bytes:
        return ""
    return "for ever" if byte_seconds is None else format_duration(round(byte_seconds / line.size_bytes))


def _verdict(policy: Policy | None, kind: dict[str, Any], state: State) -> tuple[str, int | None]:
    """Return the rule that decides about a kind of task, and for how many seconds it is kept; None for ever."""
    verdict = policy.decide(kind["queue"], kind["type"], state) if policy is not None else None
    if verdict is None:
        return UNMATCHED, kind["own_seconds"]
    return verdict.rule, verdict.retention.resolve(kind["own_seconds"])


def _plus(total: int | None, kept_seconds: int | None, size_bytes: int) -> int | None:
    return None if total is None or kept_seconds is None else total + kept_seconds * size_bytes


def _kept(policy: Policy, name: str, state: State) -> str:
    said = next(rule.says(state) for rule in policy.rules if rule.name == name)
    if said is None:
        return ""
    return format_duration(said.seconds) if said.keep is Keep.TTL else said.keep.value


@click.command()
@admin_option
@option("--policy", type=click.Path(path_type=Path), help="A policy to ask about. Default: the one the sidecar runs.")
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def report(admin: address.Address, *, policy: Path | None, as_json: bool) -> None:
    """Sum up what a policy would do with the tasks that a sidecar has seen, beside what the policy in force does."""
    try:
        census = ask(admin, "/api/census")
    except AdminClientError as error:
        fail(str(error), FAILED)
    told = census["policy"]
    running = parse_policy(told["text"], told["source"])
    asked = load(policy) if policy is not None else running
    found = compare(census, asked, policy_in_force(running, told["mode"]))
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for part in tables(found, asked, told["source"] if told["mode"] == Mode.ENFORCE.value else "", census["since"]):
        console.print(part)
