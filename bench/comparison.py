"""Rounds, medians and ratios.

Within a round every contestant is measured once under every load, in an order that rotates from round to round. A
ratio is taken within a round, where the machine was in the same mood for both, and its median over the rounds is told.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant under one load in one round."""

    round: int
    load: str
    contestant: str
    figures: Figures


def rotate(contestants: list[str], round_: int) -> list[str]:
    """Return the order of a round: each contestant comes first in turn."""
    first = round_ % len(contestants)
    return contestants[first:] + contestants[:first]


def measure(
    rounds: int, contestants: list[str], loads: list[str], run: Callable[[str, str], Figures]
) -> Iterator[Sample]:
    """Measure, and yield each sample as it is there.

    Args:
        rounds: how many.
        contestants: their names.
        loads: their names.
        run: measures one load (first argument) through one contestant (second).
    """
    for round_ in range(rounds):
        for load in loads:
            for contestant in rotate(contestants, round_):
                yield Sample(round_, load, contestant, run(load, contestant))


def medians(samples: list[Sample], load: str, contestant: str) -> Figures:
    """Return the median over the rounds of each figure of a contestant under a load."""
    rows = [sample.figures for sample in samples if (sample.load, sample.contestant) == (load, contestant)]
    return {figure: median(row[figure] for row in rows) for figure in rows[0]} if rows else {}


def ratios(samples: list[Sample], load: str, contestant: str, reference: str) -> Figures:
    """Return the median over the rounds of each figure's ratio to the reference's in the same round.

    A figure that the reference does not have, or has as zero, is left out.
    """
    by_round = {(sample.round, sample.contestant): sample.figures for sample in samples if sample.load == load}
    found: dict[str, list[float]] = {}
    for (round_, name), figures in by_round.items():
        other = by_round.get((round_, reference), {})
        if name == contestant:
            for figure, value in figures.items():
                if other.get(figure):
                    found.setdefault(figure, []).append(value / other[figure])
    return {figure: median(values) for figure, values in found.items()}
