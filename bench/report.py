"""Results as Markdown: targets, medians with ratios, script costs, refusals, environment."""

from comparison import Sample, medians, ratios
from results import Results
from script_cost import Cost
from targets import TARGETS

_REFERENCES = ("haproxy", "direct")


def report(results: Results, server: str) -> str:
    """Return everything that has been measured, as Markdown.

    Args:
        results: the folder.
        server: whose script costs the targets are held against, if there are any.
    """
    parts = ["# What was measured", environment_list(results)]
    costs = results.costs
    if results.samples:
        parts += ["## Targets", target_table(results.samples, costs.get(server, []))]
        parts += ["## Side by side", _KEY, comparison_table(results.samples)]
    for name, of_server in costs.items():
        parts += [f"## Redis's time for each script ({name})", cost_table(of_server)]
    if results.refusals:
        parts += ["## What twemproxy answers", _table([["command", "reply"], *results.refusals])]
    return "\n\n".join(parts) + "\n"


_KEY = "Medians over the rounds; in parentheses the median ratios, within rounds, to HAProxy and to direct."


def environment_list(results: Results) -> str:
    """Return where and with what it was measured."""
    return "\n".join(f"- {name}: {_plain(value)}" for name, value in results.environment.items())


def target_table(samples: list[Sample], costs: list[Cost]) -> str:
    """Return each target, what was measured, and whether it is met."""
    rows = [["figure", "target", "measured", ""]]
    for target in TARGETS:
        value = target.measured(samples, costs)
        verdict = "not measured" if value is None else "met" if target.met(value) else "**missed**"
        shown = "" if value is None else number(value)
        rows.append([target.figure, f"{target.bound.value} {target.value:g}", shown, verdict])
    return _table(rows)


def comparison_table(samples: list[Sample]) -> str:
    """Return for each load and figure the median of each contestant, and its ratios in parentheses."""
    contestants = list(dict.fromkeys(sample.contestant for sample in sorted(samples, key=lambda each: each.round)))
    rows = [["load", "figure", *contestants]]
    for load in dict.fromkeys(sample.load for sample in samples):
        values = {name: medians(samples, load, name) for name in contestants}
        compared = {name: [ratios(samples, load, name, other) for other in _REFERENCES] for name in contestants}
        for figure in dict.fromkeys(figure for row in values.values() for figure in row):
            cells = [_cell(values[name], compared[name], figure) for name in contestants]
            rows.append([load, figure, *cells])
    return _table(rows)


def cost_table(costs: list[Cost]) -> str:
    """Return what each script costs Redis, wrapped and not."""
    rows = [["operation", "script", "original µs", "wrapped µs", "ratio", "calls each way"]]
    for cost in costs:
        shown = (number(cost.original_us), number(cost.wrapped_us), f"{cost.ratio:.2f}", f"{cost.calls:,}")
        rows.append([cost.operation, cost.script, *shown])
    return _table(rows)


def number(value: float) -> str:
    """Return a number with three significant digits, or whole from 1,000 on."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _cell(values: dict[str, float], compared: list[dict[str, float]], figure: str) -> str:
    if figure not in values:
        return ""
    shown = " ".join(f"{row[figure]:.2f}" if figure in row else "-" for row in compared)
    return f"{number(values[figure])} ({shown})"


def _plain(value: object) -> str:
    return ", ".join(f"{name} {each}" for name, each in value.items()) if isinstance(value, dict) else str(value)


def _table(rows: list[list[str]]) -> str:
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body))
