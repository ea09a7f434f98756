"""The memory that terminal tasks will take, under Asynq alone and under a policy. Pure.

What is there ends when its time is over. New tasks are supposed to arrive as they did in the last days, and to live for
as long; under the policy, for as long as its retention says, be that seconds. An archive grows no larger than its cap:
Asynq's own, or the policy's.

Invariant: what no cap can reach is added up once for all queues, so that thousands of queues cost no more than one.
"""

from dataclasses import dataclass

from asynq_ttl.existing_keys.audit.counts import NEVER, DayCounts, Group, Tally
from asynq_ttl.existing_keys.standing import TERMINAL
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Policy

HORIZON_DAYS = 90
_DAY = 86_400
ARRIVAL_DAYS = 7


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes of archived and completed tasks on each day from today, and what the forecast rests on.

    Attributes:
        own: under Asynq alone, as things are.
        policy: under the policy, once `backfill --orphans ttl` has run.
        arrivals: tasks that arrive in a day.
        days: over how many days those were counted.
    """

    own: tuple[int, ...]
    policy: tuple[int, ...]
    arrivals: float
    days: float


def forecast(tally: Tally, policy: Policy) -> Forecast:
    """Return the forecast for the terminal tasks that an audit has counted."""
    groups = [(queue, state, group) for (queue, state), group in tally.groups.items() if state in TERMINAL]
    oldest = max((group.oldest for *_, group in groups), default=0)
    # A database younger than the window has had no more days to fill up.
    days = min(float(ARRIVAL_DAYS), max(oldest / _DAY, 1.0))
    own, after = _Curve(days), _Curve(days)
    arrivals = 0.0
    for queue, state, group in groups:
        arrivals += sum(count for _, count, _ in group.own_lives.items())
        own_cap = OWN_ARCHIVE_CAP if state == "archived" else None
        limits = policy.archive_limits(queue) if state == "archived" else None
        cap = own_cap if limits is None else limits.cap if limits.cap is not None else own_cap
        if limits is not None and limits.uncapped:
            cap = None
        own.add(group, group.own, group.own_lives, own_cap)
        after.add(group, group.policy, group.policy_lives, cap)
    return Forecast(own.days(today_too=True), after.days(today_too=False), arrivals / days, days)


class _Curve:
    """Bytes on each day.

    Args:
        window: over how many days arrivals were counted.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._stock, self._lives = DayCounts(), DayCounts()
        self._capped: list[tuple[DayCounts, DayCounts, int]] = []

    def add(self, group: Group, stock: DayCounts, lives: DayCounts, cap: int | None) -> None:
        """Add a group.

        Args:
            group: the group.
            stock: on which day from today the tasks that are there end.
            lives: how many seconds those live that arrive.
            cap: the most tasks; None for no limit.
        """
        most = sum(count for _, count, _ in stock.items()) + sum(
            count * min(life / _DAY, HORIZON_DAYS) / self._window for life, count, _ in lives.items() if life < NEVER
        )
        if cap is not None and most > cap:
            self._capped.append((_sized(stock, group), _sized(lives, group), cap))
            return
        self._stock.merge(_sized(stock, group))
        self._lives.merge(_sized(lives, group))

    def days(self, *, today_too: bool) -> tuple[int, ...]:
        """Return the bytes on each day from today.

        Args:
            today_too: whether what ends today is there today.
        """
        parts = [(self._stock, self._lives, None), *self._capped]
        each_day = range(HORIZON_DAYS + 1)
        return tuple(round(sum(self._bytes(*part, day, today_too=today_too) for part in parts)) for day in each_day)

    def _bytes(self, stock: DayCounts, lives: DayCounts, cap: int | None, day: int, *, today_too: bool) -> float:
        """Return the bytes on a day. No cap applies to what never ends (orphans, what is kept for ever)."""
        kept = size = free = 0.0
        for end, count, content in stock.items():
            if end >= NEVER:
                free += content
            elif end > day or (day == 0 and today_too):
                kept, size = kept + count, size + content
        for life, count, content in lives.items():
            share = min(day, life / _DAY) / self._window
            if life >= NEVER:
                free += content * share
            else:
                kept, size = kept + count * share, size + content * share
        return free + (size * cap / kept if cap is not None and kept > cap else size)


def _sized(counts: DayCounts, group: Group) -> DayCounts:
    """Return counts with the bytes of whole keys in place of those of their content."""
    return DayCounts({key: [count, content + count * group.mean_excess] for key, count, content in counts.items()})
