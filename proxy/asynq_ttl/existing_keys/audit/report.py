"""An audit as a table, as JSON, and as one HTML file that needs nothing else. Decides nothing."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table

from asynq_ttl.existing_keys.audit.counts import AGE_NAMES, Group, Tally
from asynq_ttl.existing_keys.audit.forecast import HORIZON_DAYS, Forecast
from asynq_ttl.existing_keys.audit.plot import COLORS, bytes_text, histogram, lines, stacked_bars
from asynq_ttl.existing_keys.findings import Finding, worst
from asynq_ttl.times import format_duration

_STATES = ("pending", "archived", "completed", "retry", "scheduled", "active", "aggregating", "")
_MOST_QUEUES = 25


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
        forecast: the memory to come.
    """

    upstream: str
    server: str
    policy: str
    now: int
    seconds: float
    tally: Tally
    findings: list[Finding]
    forecast: Forecast


def rows(tally: Tally) -> list[tuple[str, str, Group]]:
    """Return queue, state and group, in the order in which they are shown."""
    return [
        (queue, state, group)
        for (queue, state), group in sorted(
            tally.groups.items(),
            key=lambda item: (item[0][0], _STATES.index(item[0][1]) if item[0][1] in _STATES else 99),
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
        "groups": groups,
        "index_bytes": report.tally.indexes,
        "findings": [{**asdict(found), "severity": found.severity.name.lower()} for found in report.findings],
        "forecast": asdict(report.forecast),
    }
    return json.dumps(content, indent=2)


def findings_json(upstream: str, findings: list[Finding]) -> str:
    """Return findings as JSON."""
    content = {
        "upstream": upstream,
        "severity": worst(findings).name.lower(),
        "findings": [{**asdict(found), "severity": found.severity.name.lower()} for found in findings],
    }
    return json.dumps(content, indent=2)


def print_report(report: Report, console: Console) -> None:
    """Print the report as tables."""
    table = Table(title=f"{report.upstream}  {report.server}", title_justify="left")
    for heading in ("queue", "state"):
        table.add_column(heading, overflow="fold")
    for heading in ("tasks", "memory", "with TTL", "without", "orphans", "oldest"):
        table.add_column(heading, justify="right")
    for queue, state, group in rows(report.tally):
        table.add_row(
            printable(queue),
            printable(state) or "none",
            f"{group.tasks:,}",
            _memory(group),
            f"{group.timed:,}",
            f"{group.tasks - group.timed:,}",
            f"{group.orphans:,}" if group.orphans else "",
            format_duration(group.oldest) if sum(group.ages) else "",
        )
    console.print(table)
    total = sum(group.bytes for *_, group in rows(report.tally)) + sum(report.tally.indexes.values())
    console.print(f"{report.tally.keys:,} keys, {bytes_text(total)} with lists and indexes, {report.seconds:.1f} s")
    ahead = report.forecast
    console.print(
        f"terminal tasks in {HORIZON_DAYS} days: {bytes_text(ahead.own[-1])} as things are, "
        f"{bytes_text(ahead.policy[-1])} under {report.policy} (today {bytes_text(ahead.own[0])})",
        highlight=False,
        markup=False,
    )
    print_findings(report.findings, console)


def print_findings(findings: list[Finding], console: Console) -> None:
    """Print findings: what, why, what to do."""
    if not findings:
        console.print("Nothing is wrong.")
    for found in findings:
        count = f"{found.count:,} " if found.count else ""
        console.print()
        console.print(f"[{found.severity.color}]{found.severity.name.lower()}[/] ", end="")
        console.print(f"{count}{printable(found.what)} ({found.code})", highlight=False, markup=False, soft_wrap=True)
        for label, text in (("why", found.why), ("do", found.advice), ("such as", "; ".join(found.examples))):
            if text:
                console.print(f"  {label}: {printable(text)}", highlight=False, markup=False, soft_wrap=True)


def _days(days: float) -> str:
    return "day" if days < 1.5 else f"{days:.0f} days"


def _memory(group: Group) -> str:
    error = group.error_bytes
    share = error / group.bytes * 100 if group.bytes else 0
    return bytes_text(group.bytes) + (f" ±{share:.1f}%" if error else "")


def printable(text: str) -> str:
    """Return a text without control characters, for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def as_html(report: Report) -> str:
    """Return the report as one HTML page with its plots in it."""
    when = datetime.fromtimestamp(report.now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    verdict = worst(report.findings).name.lower()
    tasks = sum(group.tasks for *_, group in rows(report.tally))
    total = sum(group.bytes for *_, group in rows(report.tally))
    untimed = report.tally.problems.get("untimed", 0)
    ahead = report.forecast
    return _PAGE.format(
        style=_STYLE,
        upstream=escape(report.upstream),
        subtitle=escape(f"{report.server}, {when}, {report.seconds:.0f} s"),
        verdict=verdict,
        tasks=f"{tasks:,}",
        memory=bytes_text(total),
        untimed=f"{untimed:,}",
        findings_count=len(report.findings),
        memory_plot=_memory_plot(report.tally),
        age_plot=_age_plot(report.tally),
        forecast_plot=lines(
            [("as things are", ahead.own), (f"under {report.policy}", ahead.policy)],
            f"days from now; {ahead.arrivals:,.0f} tasks arrive in a day, as in the last {_days(ahead.days)}",
        ),
        findings="".join(_finding_html(found) for found in report.findings) or "<p>Nothing is wrong.</p>",
        table=_table_html(report.tally),
    )


def _memory_plot(tally: Tally) -> str:
    found = {state for _, state in tally.groups}
    states = [state for state in _STATES if state in found] + sorted(found.difference(_STATES))
    queues = sorted({queue for queue, _ in tally.groups})
    values = [
        (queue, [tally.groups[queue, state].bytes if (queue, state) in tally.groups else 0 for state in states])
        for queue in queues
    ]
    values.sort(key=lambda row: -sum(row[1]))
    if len(values) > _MOST_QUEUES:
        rest = [sum(column) for column in zip(*(row for _, row in values[_MOST_QUEUES:]), strict=True)]
        values = [*values[:_MOST_QUEUES], (f"{len(values) - _MOST_QUEUES} more queues", rest)]
    named = [(printable(name), row) for name, row in values]
    return stacked_bars(named, [printable(state) or "no state" for state in states], [_color(name) for name in states])


def _age_plot(tally: Tally) -> str:
    series = []
    for state in ("completed", "archived", "pending", "retry"):
        counted = [group.ages for (_, found), group in tally.groups.items() if found == state]
        ages = [sum(column) for column in zip(*counted, strict=True)]
        if sum(ages):
            series.append((state, ages))
    colors = [_color(name) for name, _ in series]
    return histogram(AGE_NAMES, series, colors) if series else "<p>No task whose age is known.</p>"


def _color(state: str) -> str:
    """Return the colour that a state has in every plot."""
    return COLORS[_STATES.index(state) % len(COLORS)] if state in _STATES else COLORS[-1]


def _finding_html(found: Finding) -> str:
    examples = "".join(f"<li><code>{escape(printable(text))}</code></li>" for text in found.examples)
    count = f"{found.count:,} " if found.count else ""
    severity = found.severity.name.lower()
    return (
        f'<section class="finding {severity}"><h3><span>{severity}</span> '
        f"{count}{escape(found.what)}</h3><p><b>Why it matters:</b> {escape(found.why)}.</p>"
        f"<p><b>What to do:</b> {escape(found.advice)}.</p><ul>{examples}</ul></section>"
    )


def _table_html(tally: Tally) -> str:
    cells = []
    for queue, state, group in rows(tally):
        numbers = (
            f"{group.tasks:,}",
            escape(_memory(group)),
            f"{group.timed:,}",
            f"{group.tasks - group.timed:,}",
            f"{group.orphans:,}",
            format_duration(group.oldest) if sum(group.ages) else "",
        )
        names = f"<td>{escape(printable(queue))}</td><td>{escape(printable(state)) or 'none'}</td>"
        cells.append(f"<tr>{names}{''.join(f'<td>{number}</td>' for number in numbers)}</tr>")
    return "".join(cells)


_STYLE = """
:root { color-scheme: light dark; --ink: #0f172a; --soft: #64748b; --paper: #fff; --card: #f8fafc; --line: #e2e8f0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e2e8f0; --soft: #94a3b8; --paper: #0f172a; --card: #1e293b; --line: #334155; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  max-width: 920px; padding: 32px 24px; }
h1 { font-size: 24px; margin: 0; } h2 { font-size: 18px; margin: 36px 0 8px; } h3 { font-size: 15px; margin: 0 0 4px; }
.sub, .note { color: var(--soft); margin: 4px 0; }
.cards { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-top: 20px; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
.cards b { display: block; font-size: 21px; } .cards span { color: var(--soft); font-size: 13px; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.grid { stroke: var(--line); stroke-width: 1; }
.finding { background: var(--card); border: 1px solid var(--line); border-left: 4px solid #0891b2; border-radius: 6px;
  padding: 10px 16px; margin: 10px 0; }
.finding p { margin: 2px 0; } .finding ul { margin: 4px 0 0; padding-left: 20px; color: var(--soft); }
.finding h3 span { font-size: 12px; text-transform: uppercase; color: #0891b2; margin-right: 6px; }
.warning { border-left-color: #d97706; } .warning h3 span { color: #d97706; }
.danger { border-left-color: #dc2626; } .danger h3 span { color: #dc2626; }
code { font-size: 12px; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 4px 8px; border-bottom: 1px solid var(--line); font-size: 13px; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; overflow-wrap: anywhere; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>asynq-ttl audit of {upstream}</title><style>{style}</style></head><body>
<h1>Audit of {upstream}</h1><p class="sub">{subtitle}</p>
<div class="cards"><div><b>{tasks}</b><span>tasks</span></div><div><b>{memory}</b><span>in task keys</span></div>
<div><b>{untimed}</b><span>terminal tasks without a TTL</span></div>
<div><b>{verdict}</b><span>worst of {findings_count} findings</span></div></div>
<h2>Findings</h2>{findings}
<h2>Memory by queue and state</h2>{memory_plot}
<h2>Age</h2><p class="note">Archived since their death, completed since their completion, pending since they were
queued, retry since they last failed.</p>{age_plot}
<h2>Memory of terminal tasks to come</h2><p class="note">What is there leaves when its time is over; what arrives is
supposed to arrive, and to live, as in the last days. Under the policy: once backfill has run, orphans
included.</p>{forecast_plot}
<h2>Numbers</h2><p class="note">Memory is an estimate; ± is its 95 % confidence interval.</p>
<table><thead><tr><th>queue</th><th>state</th><th>tasks</th><th>memory</th><th>with TTL</th><th>without</th>
<th>orphans</th><th>oldest</th></tr></thead><tbody>{table}</tbody></table>
</body></html>
"""
