"""What an audit came to, as tables on a terminal and as JSON. Decides nothing; `html_page` draws the same as a page."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asynq_ttl.existing_keys.audit.counts import AGE_NAMES, Group, Tally
from asynq_ttl.existing_keys.audit.forecast import HORIZON_DAYS, Forecast
from asynq_ttl.existing_keys.audit.plot import bytes_text
from asynq_ttl.existing_keys.findings import Finding, as_data, print_findings, visible, worst
from asynq_ttl.times import format_duration

STATES = ("pending", "archived", "completed", "retry", "scheduled", "active", "aggregating", "")
"""The states in the order in which they are shown; the last is that of a hash without one."""

# Nobody reads a longer table, and drawing one takes seconds.
_MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Report:
    """What an audit came to.

    Attributes:
        upstream: the database, without credentials.
        server: name and version of the server.
        policy: where the policy of the forecast came from.
        now: when the audit began, in Unix seconds.
        seconds: how long it took.
        tally: what was counted.
        findings: what is wrong, the worst first.
        forecast: the memory that terminal tasks will take.
        left_out: what could not be looked at, a line for each kind of it; the findings tell of it too.
    """

    upstream: str
    server: str
    policy: str
    now: int
    seconds: float
    tally: Tally
    findings: list[Finding]
    forecast: Forecast
    left_out: tuple[str, ...] = ()


def rows(tally: Tally) -> list[tuple[str, str, Group]]:
    """Return queue, state and group of each row, in the order in which they are shown."""
    return [
        (queue, state, group)
        for (queue, state), group in sorted(
            tally.groups.items(),
            key=lambda item: (item[0][0], STATES.index(item[0][1]) if item[0][1] in STATES else 99),
        )
    ]


def as_json(report: Report) -> str:
    """Return the report as JSON."""
    groups = [
        {
            "queue": queue,
            "state": state,
            "tasks": group.tasks,
            "bytes": group.bytes,
            "bytes_error": group.error_bytes,
            "sampled": group.sampled,
            "with_ttl": group.timed,
            "without_ttl": group.tasks - group.timed,
            "orphans": group.orphans,
            "locks": group.locks,
            "held": group.held,
            "oldest_seconds": group.oldest,
            "ages": dict(zip(AGE_NAMES, group.ages, strict=True)),
        }
        for queue, state, group in rows(report.tally)
    ]
    content: dict[str, Any] = {
        "upstream": report.upstream,
        "server": report.server,
        "policy": report.policy,
        "time": report.now,
        "seconds": round(report.seconds, 1),
        "severity": worst(report.findings).name.lower(),
        "keys": report.tally.keys,
        "other_keys": report.tally.other_keys,
        "scheduler_histories": {"keys": report.tally.histories, "with_ttl": report.tally.timed_histories},
        "groups": groups,
        "index_bytes": report.tally.indexes,
        "findings": as_data(report.findings),
        "forecast": asdict(report.forecast),
    }
    return json.dumps(content, indent=2)


def print_report(report: Report, console: Console) -> None:
    """Print the report: a table of queues and states, totals, the forecast, and the findings."""
    table = Table(title=Text(f"{report.upstream}  {report.server}"), title_justify="left")
    for heading in ("queue", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("tasks", "memory", "with TTL", "without", "held", "orphans", "oldest"):
        table.add_column(heading, justify="right")
    found = rows(report.tally)
    largest = found if len(found) <= _MOST_ROWS else sorted(found, key=lambda row: -row[2].bytes)[:_MOST_ROWS]
    for queue, state, group in largest:
        table.add_row(
            Text(visible(queue)),
            Text(visible(state) or "none"),
            f"{group.tasks:,}",
            memory_text(group),
            f"{group.timed:,}",
            f"{group.tasks - group.timed:,}",
            f"{group.held:,}" if group.held else "",
            f"{group.orphans:,}" if group.orphans else "",
            format_duration(group.oldest) if sum(group.ages) else "",
        )
    console.print(table)
    if len(found) > len(largest):
        console.print(f"... and {len(found) - len(largest):,} smaller ones; --json has all of them", highlight=False)
    total = sum(group.bytes for *_, group in found) + sum(report.tally.indexes.values())
    console.print(f"{report.tally.keys:,} keys, {bytes_text(total)} with lists and indexes, {report.seconds:.1f} s")
    if report.tally.histories:
        timed = f"{report.tally.timed_histories:,} with a TTL"
        console.print(f"{report.tally.histories:,} histories of scheduler entries, {timed}", highlight=False)
    ahead = report.forecast
    console.print(
        f"terminal tasks in {HORIZON_DAYS} days: {bytes_text(ahead.own[-1])} as things are, "
        f"{bytes_text(ahead.policy[-1])} under {report.policy} (today {bytes_text(ahead.own[0])})",
        highlight=False,
        markup=False,
    )
    print_findings(report.findings, console)


def memory_text(group: Group) -> str:
    """Return the memory of a group for people, with the error of the estimate where there is one: `1.5 GiB ±0.3%`."""
    error = group.error_bytes
    share = error / group.bytes * 100 if group.bytes else 0
    return bytes_text(group.bytes) + (f" ±{share:.1f}%" if error else "")
