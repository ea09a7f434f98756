from xml.etree import ElementTree as ET

import pytest

from asynq_ttl.existing_keys.audit.plot import bytes_text, histogram, lines, stacked_bars

NASTY = 'a"<b>&'


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3,072.0 GiB")],
)
def test_bytes_are_told_in_the_largest_unit(count: int, text: str) -> None:
    """With one decimal."""
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    "plot",
    [
        stacked_bars([(NASTY, [1, 2]), ("empty", [0, 0])], [NASTY, "b"]),
        stacked_bars([], []),
        histogram([NASTY, "b"], [(NASTY, [0, 7])]),
        lines([(NASTY, [0, 5, 9]), ("b", [1, 1, 1])], NASTY),
        lines([("flat", [0])], "days"),
    ],
)
def test_every_plot_is_well_formed(plot: str) -> None:
    """Whatever the names and numbers are."""
    assert ET.fromstring(plot).tag == "svg"  # noqa: S314 - our own text


def test_bars_are_as_long_as_their_values() -> None:
    """Parts of a row lie one after the other."""
    root = ET.fromstring(stacked_bars([("a", [100, 300]), ("b", [200, 0])], ["x", "y"]))  # noqa: S314 - our own text
    bars = [rect for rect in root.iter("rect") if rect.find("title") is not None]
    widths = [float(rect.attrib["width"]) for rect in bars]
    assert widths == pytest.approx([widths[0], widths[0] * 3, widths[0] * 2], abs=0.2)
    assert float(bars[1].attrib["x"]) == pytest.approx(float(bars[0].attrib["x"]) + widths[0], abs=0.1)


def test_lines_rise_with_their_values() -> None:
    """Day 0 is at the left, a greater value is higher."""
    root = ET.fromstring(lines([("a", [0, 50, 100])], "days"))  # noqa: S314 - our own text
    line = root.find("polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[0][1] > points[1][1] > points[2][1]
