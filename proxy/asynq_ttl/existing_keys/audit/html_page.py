"""An audit as one HTML page with its plots in it, which needs nothing else. Decides nothing.

Invariant: whatever comes from Redis (names, IDs) is escaped, and has no control characters.
"""

from datetime import UTC, datetime
from html import escape

from asynq_ttl.existing_keys.audit.counts import AGE_NAMES, Tally
from asynq_ttl.existing_keys.audit.plot import COLORS, bytes_text, histogram, lines, stacked_bars
from asynq_ttl.existing_keys.audit.report import STATES, Report, memory_text, rows
from asynq_ttl.existing_keys.findings import Finding, visible, worst
from asynq_ttl.times import format_duration

_MOST_QUEUES = 25


def _days(days: float) -> str:
    """Return a number of days in words, to stand after `the last`."""
    return "day" if days < 1.5 else f"{days:.0f} days"


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
    states = [state for state in STATES if state in found] + sorted(found.difference(STATES))
    queues = sorted({queue for queue, _ in tally.groups})
    values = [
        (queue, [tally.groups[queue, state].bytes if (queue, state) in tally.groups else 0 for state in states])
        for queue in queues
    ]
    values.sort(key=lambda row: -sum(row[1]))
    if len(values) > _MOST_QUEUES:
        rest = [sum(column) for column in zip(*(row for _, row in values[_MOST_QUEUES:]), strict=True)]
        values = [*values[:_MOST_QUEUES], (f"{len(values) - _MOST_QUEUES} more queues", rest)]
    named = [(visible(name), row) for name, row in values]
    return stacked_bars(named, [visible(state) or "no state" for state in states], [_color(name) for name in states])


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
    return COLORS[STATES.index(state) % len(COLORS)] if state in STATES else COLORS[-1]


def _finding_html(found: Finding) -> str:
    examples = "".join(f"<li><code>{escape(visible(text))}</code></li>" for text in found.examples)
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
            escape(memory_text(group)),
            f"{group.timed:,}",
            f"{group.tasks - group.timed:,}",
            f"{group.held:,}" if group.held else "",
            f"{group.orphans:,}",
            format_duration(group.oldest) if sum(group.ages) else "",
        )
        names = f"<td>{escape(visible(queue))}</td><td>{escape(visible(state)) or 'none'}</td>"
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
<th>held</th><th>orphans</th><th>oldest</th></tr></thead><tbody>{table}</tbody></table>
</body></html>
"""
