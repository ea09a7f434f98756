"""Plots as inline SVG text: bars and lines. Pure; knows nothing of audits."""

from collections.abc import Sequence
from html import escape

_WIDTH = 860
_BAR_HEIGHT, _BAR_GAP, _LABEL_WIDTH, _BARS_TOP = 24, 10, 210, 36
_PLOT_HEIGHT, _LEFT, _BOTTOM, _TOP = 260, 76, 34, 14
COLORS = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#64748b")


def bytes_text(count: float) -> str:
    """Return a number of bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


def stacked_bars(
    rows: Sequence[tuple[str, Sequence[float]]], series: Sequence[str], colors: Sequence[str] = COLORS
) -> str:
    """Return horizontal bars of bytes, one for each row, each made of one part for each series.

    Args:
        rows: a label and one value for each series.
        series: the names of the series.
        colors: a colour for each series.
    """
    longest = max((sum(values) for _, values in rows), default=0) or 1
    space = _WIDTH - _LABEL_WIDTH - 90
    parts = [_legend(series, colors)]
    for number, (label, values) in enumerate(rows):
        top = _BARS_TOP + number * (_BAR_HEIGHT + _BAR_GAP)
        parts.append(_text(_LABEL_WIDTH - 10, top + 16, _short(label, 28), anchor="end"))
        left = float(_LABEL_WIDTH)
        for place, value in enumerate(values):
            width = value / longest * space
            if value > 0:
                title = escape(f"{label}, {series[place]}: {bytes_text(value)}")
                parts.append(_rect((left, top), (max(width, 1), _BAR_HEIGHT), colors[place], title))
                left += max(width, 1)
        parts.append(_text(left + 6, top + 16, bytes_text(sum(values))))
    return _svg(_BARS_TOP + len(rows) * (_BAR_HEIGHT + _BAR_GAP), parts)


def histogram(names: Sequence[str], series: Sequence[tuple[str, Sequence[int]]], colors: Sequence[str] = COLORS) -> str:
    """Return columns of counts side by side, one group for each name.

    Args:
        names: what the groups stand for.
        series: name and one count for each group.
        colors: a colour for each series.
    """
    highest = _ceiling(max((max(values) for _, values in series), default=0))
    parts = [_legend([name for name, _ in series], colors), *_scale(highest, lambda value: f"{value:,.0f}")]
    step = (_WIDTH - _LEFT - 10) / max(len(names), 1)
    width = step * 0.8 / max(len(series), 1)
    for number, name in enumerate(names):
        left = _LEFT + number * step
        parts.append(_text(left + step / 2, _TOP + 20 + _PLOT_HEIGHT + 18, name, anchor="middle"))
        for place, (label, values) in enumerate(series):
            height = values[number] / highest * _PLOT_HEIGHT
            if values[number]:
                height = max(height, 1)
                top = _TOP + 20 + _PLOT_HEIGHT - height
                title = escape(f"{label}, {name}: {values[number]:,}")
                parts.append(_rect((left + step * 0.1 + place * width, top), (width - 1, height), colors[place], title))
    return _svg(_TOP + 20 + _PLOT_HEIGHT + _BOTTOM, parts)


def lines(series: Sequence[tuple[str, Sequence[float]]], unit: str) -> str:
    """Return lines of bytes over days.

    Args:
        series: name and a value for each day from 0.
        unit: what is written below the axis.
    """
    highest = _ceiling_bytes(max((max(values) for _, values in series), default=0))
    days = max((len(values) for _, values in series), default=1) - 1 or 1
    parts = [_legend([name for name, _ in series], COLORS), *_scale(highest, bytes_text)]
    space, base = _WIDTH - _LEFT - 30, _TOP + 20 + _PLOT_HEIGHT
    parts += [
        _text(_LEFT + day / days * space, base + 18, str(day), anchor="middle")
        for day in range(0, days + 1, max(days // 6, 1))
    ]
    parts.append(_text(_WIDTH / 2, base + 34, unit, anchor="middle"))
    for place, (name, values) in enumerate(series):
        points = " ".join(
            f"{_LEFT + day / days * space:.1f},{base - value / highest * _PLOT_HEIGHT:.1f}"
            for day, value in enumerate(values)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{COLORS[place]}" stroke-width="2.5">'
            f"<title>{escape(name)}</title></polyline>"
        )
    return _svg(base + 44, parts)


def _svg(height: float, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height:.0f}" role="img">{"".join(parts)}</svg>'


def _text(left: float, top: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(corner: tuple[float, float], size: tuple[float, float], color: str, title: str) -> str:
    (left, top), (width, height) = corner, size
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{color}" rx="2">'
        f"<title>{title}</title></rect>"
    )


def _legend(names: Sequence[str], colors: Sequence[str]) -> str:
    parts, left = [], 0.0
    for place, name in enumerate(names):
        parts.append(f'<rect x="{left:.0f}" y="4" width="12" height="12" fill="{colors[place]}" rx="2"/>')
        parts.append(_text(left + 18, 14.5, name))
        left += 40 + 7 * len(name)
    return "".join(parts)


def _scale(highest: float, label: object) -> list[str]:
    parts = []
    for part in range(5):
        value = highest * part / 4
        top = _TOP + 20 + _PLOT_HEIGHT * (1 - part / 4)
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{top:.1f}" y2="{top:.1f}" class="grid"/>')
        parts.append(_text(_LEFT - 8, top + 4, label(value) if callable(label) else "", anchor="end"))
    return parts


def _ceiling(value: float) -> float:
    """Return a round number that is no less, and divides by four."""
    step = 4.0
    while step < value:
        for factor in (2, 2.5, 2):
            if step >= value:
                break
            step *= factor
    return step


def _ceiling_bytes(value: float) -> float:
    unit = 1.0
    while value / unit >= 1024:
        unit *= 1024
    return _ceiling(value / unit * 10) / 10 * unit


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
