"""The targets: what the sidecar, rewriting and tracing 10 %, may cost beside HAProxy."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from comparison import Sample, medians, ratio_of_added, ratios
from script_cost import Cost

CONTESTANT, REFERENCE = "asynq-ttl-traced", "haproxy"
_Measured = Callable[[list[Sample], list[Cost]], float | None]


class Bound(Enum):
    """Which side of the bound a value has to be on."""

    AT_LEAST = "at least"
    AT_MOST = "at most"


@dataclass(frozen=True, slots=True)
class Target:
    """One figure and its bound.

    Attributes:
        figure: what is measured.
        bound: the side.
        value: a ratio, or a number of the figure's unit.
        measured: reads the figure from the results; None where it was not measured.
    """

    figure: str
    bound: Bound
    value: float
    measured: _Measured

    def met(self, measured: float) -> bool:
        """Tell whether what was measured is within the bound."""
        return measured >= self.value if self.bound is Bound.AT_LEAST else measured <= self.value


def _ratio(load: str, *figures: str) -> _Measured:
    """Return the least ratio of some figures to HAProxy's."""

    def measured(samples: list[Sample], _: list[Cost]) -> float | None:
        found = ratios(samples, load, CONTESTANT, REFERENCE)
        return min((found[figure] for figure in figures if figure in found), default=None)

    return measured


def _added(load: str, figure: str) -> _Measured:
    return lambda samples, _: ratio_of_added(samples, load, figure, CONTESTANT, REFERENCE)


def _own(load: str, figure: str) -> _Measured:
    return lambda samples, _: medians(samples, load, CONTESTANT).get(figure)


def _scripts(*operations: str) -> _Measured:
    """Return the highest ratio of some operations."""

    def measured(_: list[Sample], costs: list[Cost]) -> float | None:
        return max((cost.ratio for cost in costs if cost.operation in operations), default=None)

    return measured


_LEAST, _MOST = Bound.AT_LEAST, Bound.AT_MOST
_SETTLING = ("complete", "archive, archive full", "archive, archive half full")
TARGETS = (
    Target("Asynq tasks processed per second, to HAProxy's", _LEAST, 1.0, _ratio("asynq", "tasks_per_second")),
    Target("CPU per command of that load, to HAProxy's", _MOST, 1.0, _ratio("asynq", "proxy_cpu_us_per_command")),
    Target(
        "tasks enqueued per second by 10 producers, to HAProxy's", _LEAST, 1.1, _ratio("asynq", "enqueued_per_second")
    ),
    Target("added p50 at one connection, to HAProxy's", _MOST, 1.25, _added("one-connection", "get_p50_ms")),
    Target("added p99 at 20 connections, to HAProxy's", _MOST, 1.5, _added("c20-p1-64B", "get_p99_ms")),
    Target(
        "throughput at pipeline 16, to HAProxy's (20 connections, the worse of GET and SET)",
        _LEAST,
        0.9,
        _ratio("c20-p16-64B", "get_per_second", "set_per_second"),
    ),
    Target("Redis time per wrapped archive or complete script, to the original", _MOST, 1.15, _scripts(*_SETTLING)),
    Target("Redis time per wrapped dequeue, to the original", _MOST, 1.2, _scripts("dequeue")),
    Target("RSS per idle connection, KB", _MOST, 12, _own("idle", "rss_per_connection_kb")),
    Target("RSS after start, MB", _MOST, 50, _own("idle", "rss_start_mb")),
)
