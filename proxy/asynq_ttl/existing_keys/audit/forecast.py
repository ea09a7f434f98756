"""The memory that terminal tasks will take, under Asynq alone and under a policy. Pure.

What is there ends when its time is over. New tasks are supposed to arrive as they did in the last days, and to live for
as long; under the policy, for as long as its retention says, be that seconds. An archive grows no larger than its cap:
Asynq's own, or the policy's.

Invariants:

* A task that lives for a shorter time than the last days is counted as many times as it would fit into them: of those
  that arrived, only the last ones are still there to be seen.
* What no cap can reach is added up once for all queues, so that thousands of queues cost no more than one.
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
    own, after = _Curve(), _Curve()
    arrivals = 0.0
    for queue, state, group in groups:
        caps = _caps(policy, queue, state)
        own_rates, policy_rates = _rates(group, _seen_days(group, caps, days))
        arrivals += sum(count for _, count, _ in own_rates.items())
        own.add(group, group.own, own_rates, caps[0])
        after.add(group, group.policy, policy_rates, caps[1])
    return Forecast(own.days(today_too=True), after.days(today_too=False), arrivals, days)


def _caps(policy: Policy, queue: str, state: str) -> tuple[int | None, int | None]:
    """Return how many tasks of a state a queue keeps at most, under Asynq alone and under the policy."""
    if state != "archived":
        return None, None
    limits = policy.archive_limits(queue)
    if limits is None:
        return OWN_ARCHIVE_CAP, OWN_ARCHIVE_CAP
    return OWN_ARCHIVE_CAP, None if limits.uncapped else OWN_ARCHIVE_CAP if limits.cap is None else limits.cap


def _seen_days(group: Group, caps: tuple[int | None, int | None], days: float) -> float:
    """Return for how many of the last days a group has what arrived: an archive that is full has lost older ones."""
    most = min((cap for cap in caps if cap is not None), default=None)
    full = most is not None and group.tasks - group.orphans >= most
    return min(days, max(group.oldest, 1) / _DAY) if full else days


def _rates(group: Group, window: float) -> tuple[DayCounts, DayCounts]:
    """Return tasks and bytes that arrive in a day, by the seconds that they live, as things are and under the policy.

    Args:
        group: the tasks.
        window: for how many days arrivals can be seen, of tasks that live for as long.
    """
    own, after = DayCounts(), DayCounts()
    for life, lives in group.lives.items():
        seen_days = min(max(life, 1) / _DAY, window)
        for policy_life, count, content in lives.items():
            own.add(life, content / seen_days, count / seen_days)
            after.add(policy_life, content / seen_days, count / seen_days)
    return own, after


class _Curve:
    """Bytes on each day."""

    def __init__(self) -> None:
        self._stock, self._lives = DayCounts(), DayCounts()
        self._capped: list[tuple[DayCounts, DayCounts, int]] = []

    def add(self, group: Group, stock: DayCounts, lives: DayCounts, cap: int | None) -> None:
        """Add a group.

        Args:
            group: the group.
            stock: on which day from today the tasks that are there end.
            lives: what arrives in a day, by how many seconds it lives.
            cap: the most tasks; None for no limit.
        """
        most = sum(count for _, count, _ in stock.items()) + sum(
            count * min(life / _DAY, HORIZON_DAYS) for life, count, _ in lives.items() if life < NEVER
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
            share = min(day, life / _DAY)
            if life >= NEVER:
                free += content * share
            else:
                kept, size = kept + count * share, size + content * share
        return free + (size * cap / kept if cap is not None and kept > cap else size)


def _sized(counts: DayCounts, group: Group) -> DayCounts:
    """Return counts with the bytes of whole keys in place of those of their content."""
    return DayCounts({key: [count, content + count * group.mean_excess] for key, count, content in counts.items()})
