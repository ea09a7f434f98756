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


def _ratio(load: str, *figures: str, reference: str = REFERENCE) -> _Measured:
    """Return the least ratio of some figures to the reference's."""

    def measured(samples: list[Sample], _: list[Cost]) -> float | None:
        found = ratios(samples, load, CONTESTANT, reference)
        return min((found[figure] for figure in figures if figure in found), default=None)

    return measured


def _added(load: str, figure: str) -> _Measured:
    return lambda samples, _: ratio_of_added(samples, load, figure, CONTESTANT, REFERENCE)


def _own(load: str, figure: str, contestant: str = CONTESTANT) -> _Measured:
    return lambda samples, _: medians(samples, load, contestant).get(figure)


def _scripts(*operations: str) -> _Measured:
    """Return the highest ratio of some operations."""

    def measured(_: list[Sample], costs: list[Cost]) -> float | None:
        return max((cost.ratio for cost in costs if cost.operation in operations), default=None)

    return measured


_LEAST, _MOST = Bound.AT_LEAST, Bound.AT_MOST
_STATES = {"asynq": "the Asynq load", "asynq-known": "the Asynq load, scripts known to Redis"}
_ARCHIVING = ("archive, archive full", "archive, archive half full")
_BY_HAND = ("archive one by hand", "archive all of 1,000 scheduled")


def _of_asynq(load: str, where: str) -> list[Target]:
    """Return the targets of the Asynq load in one state of Redis's script cache."""
    return [
        Target(f"{where}: tasks processed per second, to HAProxy's", _LEAST, 1.0, _ratio(load, "tasks_per_second")),
        Target(f"{where}: tasks enqueued per second, to HAProxy's", _LEAST, 1.0, _ratio(load, "enqueued_per_second")),
        Target(f"{where}: CPU per command, to HAProxy's", _MOST, 1.05, _ratio(load, "proxy_cpu_us_per_command")),
        Target(
            f"{where}: Redis's CPU per command, to that behind HAProxy",
            _MOST,
            1.04,
            _ratio(load, "redis_cpu_us_per_command"),
        ),
    ]


TARGETS = (
    *(target for load, where in _STATES.items() for target in _of_asynq(load, where)),
    Target(
        "user CPU of a forwarded EVALSHA, never seen, to a bare forwarder's",
        _MOST,
        1.15,
        _ratio("unseen", "proxy_user_us_per_command", reference="forwarder"),
    ),
    Target(
        "p99 of enqueueing at half of HAProxy's highest rate, to HAProxy's",
        _MOST,
        1.15,
        _ratio("asynq-50%", "enqueue_p99_ms"),
    ),
    Target("added p50 at one connection, to HAProxy's", _MOST, 1.25, _added("one-connection", "get_p50_ms")),
    Target("added p99 at 20 connections, to HAProxy's", _MOST, 1.5, _added("c20-p1-64B", "get_p99_ms")),
    Target(
        "throughput at pipeline 16, to HAProxy's (20 connections, the worse of GET and SET)",
        _LEAST,
        0.9,
        _ratio("c20-p16-64B", "get_per_second", "set_per_second"),
    ),
    Target("Redis's time to complete, to the original", _MOST, 1.25, _scripts("complete")),
    Target("Redis's time to archive, to the original", _MOST, 1.35, _scripts(*_ARCHIVING)),
    Target("Redis's time to archive by hand, one or 1,000, to the original", _MOST, 2.0, _scripts(*_BY_HAND)),
    Target("Redis's time to run 1,000 archived, to the original", _MOST, 1.6, _scripts("run all of 1,000 archived")),
    Target("Redis's time to dequeue, to the original", _MOST, 1.2, _scripts("dequeue")),
    Target("RSS per idle connection, KB", _MOST, 12, _own("idle", "rss_per_connection_kb")),
    Target("RSS after start, with the admin server, MB", _MOST, 50, _own("idle", "rss_start_mb", "asynq-ttl")),
)
