"""Results as tables: medians, and ratios to HAProxy and to the direct connection."""

from comparison import Sample, medians, ratios

_REFERENCES = ("haproxy", "direct")


def comparison_table(samples: list[Sample]) -> str:
    """Return a Markdown table: for each load and figure, each contestant's median, and its ratios in parentheses.

    The first ratio is that to HAProxy, the second that to the direct connection.
    """
    contestants = list(dict.fromkeys(sample.contestant for sample in sorted(samples, key=lambda s: s.round)))
    head = ["load", "figure", *contestants]
    lines = [_row(head), _row(["---"] * len(head))]
    for load in dict.fromkeys(sample.load for sample in samples):
        values = {name: medians(samples, load, name) for name in contestants}
        compared = {name: [ratios(samples, load, name, reference) for reference in _REFERENCES] for name in contestants}
        for figure in dict.fromkeys(figure for row in values.values() for figure in row):
            cells = [
                _cell(values[name].get(figure), [each.get(figure) for each in compared[name]]) for name in contestants
            ]
            lines.append(_row([load, figure, *cells]))
    return "\n".join(lines)


def _cell(value: float | None, compared: list[float | None]) -> str:
    if value is None:
        return ""
    shown = " ".join("-" if ratio is None else f"{ratio:.2f}" for ratio in compared)
    return f"{number(value)} ({shown})"


def number(value: float) -> str:
    """Return a number with three significant digits, or whole from 1,000 on."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
