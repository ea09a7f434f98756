"""`asynq-ttl report`: what a policy would do with the tasks a sidecar has seen, beside what the policy in force does.

The sidecar counts the kinds of tasks that enter a terminal state, and `policy.what_if` says what a policy does with
them. Here that is asked for and shown.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from asynq_ttl.cli.admin_client import AdminClientError, ask
from asynq_ttl.cli.options import FAILED, FilePath, admin_option, fail, option
from asynq_ttl.cli.policy_option import load
from asynq_ttl.cli.printing import show
from asynq_ttl.cli.standard_output import say
from asynq_ttl.net import address
from asynq_ttl.policy.rules import Mode, Policy
from asynq_ttl.policy.what_if import FORECAST_SECONDS, Line, PolicyReport, compare, horizons, policy_in_force
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.times import format_duration


def tables(report: PolicyReport, policy: Policy, in_force: str, since: str) -> Iterable[Table | str]:
    """Yield the report for people.

    Args:
        report: what to show.
        policy: the policy that was asked about.
        in_force: the name of the policy in force; empty where Asynq's own times are.
        since: when the sidecar began to count.
    """
    beside = f"the policy in force, {escape(in_force)}" if in_force else "Asynq's own times, which are in force"
    yield f"What {escape(policy.source)} does with the {report.tasks:,} tasks since {since}, beside {beside}:\n"
    by_rule = Table(title="By rule", title_justify="left")
    for heading in ("rule", "tasks entering", "are kept"):
        by_rule.add_column(heading, overflow="fold")
    month = format_duration(FORECAST_SECONDS)
    counted = ("tasks", "bytes", "mean time kept", "in force")
    for heading in (*counted, f"tasks in {month}", "in force", f"bytes in {month}", "in force"):
        by_rule.add_column(heading, justify="right")
    for line in report.lines:
        means = [_mean(total, line) for total in (line.byte_seconds, line.byte_seconds_in_force)]
        numbers = (f"{line.tasks:,}", f"{line.size_bytes:,}") if line.tasks else ("[yellow]none[/]", "")
        both = line.ahead, line.ahead_in_force
        ahead = [f"{each.tasks:,.0f}" for each in both] + [f"{each.size_bytes:,.0f}" for each in both]
        by_rule.add_row(escape(line.rule), line.state, line.kept, *numbers, *means, *(ahead if line.tasks else ()))
    yield by_rule
    freed = Table(title="Bytes free again, after a task enters the state", title_justify="left")
    for heading in ("", "this policy", "in force", "difference"):
        freed.add_column(heading, justify="right" if heading else "left")
    for name, asked, now in zip(horizons(), report.freed.size_bytes, report.freed_in_force.size_bytes, strict=True):
        freed.add_row(name, f"{asked:,}", f"{now:,}", f"{asked - now:+,}" if asked != now else "")
    yield freed
    notes = "Bytes are those of the task messages, without what Redis needs besides. Caps (max) are left out. "
    notes += f"What is there in {month} supposes that tasks go on to come as they did."
    if report.others:
        notes += f" {report.others:,} more tasks were archived in bulk: their types are not known."
    yield notes


def _mean(byte_seconds: int | None, line: Line) -> str:
    if not line.size_bytes:
        return ""
    return "for ever" if byte_seconds is None else format_duration(round(byte_seconds / line.size_bytes))


@click.command()
@admin_option
@option("--policy", type=FilePath(), help="A policy to ask about. Default: the one the sidecar runs.")
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
        say(json.dumps(found.as_json()))
        return
    in_force = told["source"] if told["mode"] == Mode.ENFORCE.value else ""
    show(*tables(found, asked, in_force, census["since"]), highlight=False)
