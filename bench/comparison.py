"""Rounds, medians and ratios.

Within a round every contestant is measured once under every load, in an order that rotates from round to round. A
ratio is taken within a round, where the machine was in the same mood for both, and its median over the rounds is told.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Protocol

from contestants import Contestant

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contestant under one load, once.

    Attributes:
        figures: by name, with the unit in the name.
        latencies: pairs of a share of the requests and the milliseconds within which they were answered; may be empty.
    """

    figures: Figures
    latencies: list[tuple[float, float]] = field(default_factory=list)


class Load(Protocol):
    """Something that clients do."""

    @property
    def name(self) -> str:
        """What it is called in results."""
        ...

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it to a contestant that has just been started.

        Raises:
            RuntimeError: it did not work, so that there is nothing to measure.
            MissingProgramError: what applies it is not installed.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A measurement in its place."""

    round: int
    load: str
    contestant: str
    figures: Figures
    latencies: list[tuple[float, float]]


def rotate(contestants: list[str], round_: int) -> list[str]:
    """Return the order of a round: each contestant comes first in turn."""
    first = round_ % len(contestants)
    return contestants[first:] + contestants[:first]


def measure(
    rounds: range, contestants: list[str], loads: list[Load], run: Callable[[Load, str], Measurement]
) -> Iterator[Sample]:
    """Measure, and yield each sample as it is there.

    Args:
        rounds: their numbers.
        contestants: their names.
        loads: what to apply.
        run: measures one load through the contestant of a name.
    """
    for round_ in rounds:
        for load in loads:
            for contestant in rotate(contestants, round_):
                measured = run(load, contestant)
                yield Sample(round_, load.name, contestant, measured.figures, measured.latencies)


def medians(samples: list[Sample], load: str, contestant: str) -> Figures:
    """Return the median over the rounds of each figure of a contestant under a load."""
    rows = [sample.figures for sample in samples if (sample.load, sample.contestant) == (load, contestant)]
    return {figure: median(row[figure] for row in rows) for figure in rows[0]} if rows else {}


def ratios(samples: list[Sample], load: str, contestant: str, reference: str) -> Figures:
    """Return the median over the rounds of each figure's ratio to the reference's in the same round.

    A figure that the reference does not have, or has as zero, is left out.
    """
    return {figure: median(values) for figure, values in _paired(samples, load, contestant, reference).items()}


def ratio_of_added(samples: list[Sample], load: str, figure: str, contestant: str, reference: str) -> float | None:
    """Return what a contestant adds to the direct figure, over what the reference adds: the median over the rounds."""
    by_round = _by_round(samples, load)
    found = []
    for round_ in {round_ for round_, _ in by_round}:
        rows = [by_round.get((round_, name), {}) for name in (contestant, reference, "direct")]
        if all(figure in row for row in rows):
            added, reference_added = rows[0][figure] - rows[2][figure], rows[1][figure] - rows[2][figure]
            # What the reference adds can be lost in noise; then there is nothing to compare with.
            if reference_added > 0:
                found.append(added / reference_added)
    return median(found) if found else None


def _paired(samples: list[Sample], load: str, contestant: str, reference: str) -> dict[str, list[float]]:
    by_round = _by_round(samples, load)
    found: dict[str, list[float]] = {}
    for (round_, name), figures in by_round.items():
        other = by_round.get((round_, reference), {})
        if name == contestant:
            for figure, value in figures.items():
                if other.get(figure):
                    found.setdefault(figure, []).append(value / other[figure])
    return found


def _by_round(samples: list[Sample], load: str) -> dict[tuple[int, str], Figures]:
    return {(sample.round, sample.contestant): sample.figures for sample in samples if sample.load == load}
