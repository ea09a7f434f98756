"""The memory that terminal tasks will take, under Asynq alone and under a policy. Pure.

What is there ends when its time is over. New tasks are supposed to arrive as they did in the last days, and to live for
as long. An archive grows no larger than its cap: Asynq's own, or the policy's.
"""

from dataclasses import dataclass

from asynq_ttl.existing_keys.audit.counts import NEVER, DayCounts, Group, Tally
from asynq_ttl.existing_keys.standing import TERMINAL
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Policy

HORIZON_DAYS = 90
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
    days = min(float(ARRIVAL_DAYS), max(oldest / 86_400, 1.0))
    own, after = [0.0] * (HORIZON_DAYS + 1), [0.0] * (HORIZON_DAYS + 1)
    arrivals = 0
    for queue, state, group in groups:
        arrivals += sum(count for _, count, _ in group.own_lives.items())
        own_cap = OWN_ARCHIVE_CAP if state == "archived" else None
        limits = policy.archive_limits(queue) if state == "archived" else None
        cap = own_cap if limits is None else limits.cap if limits.cap is not None else own_cap
        if limits is not None and limits.uncapped:
            cap = None
        for day in range(HORIZON_DAYS + 1):
            own[day] += _bytes(group, (group.own, group.own_lives), day, days, own_cap)
            after[day] += _bytes(group, (group.policy, group.policy_lives), day, days, cap)
    return Forecast(tuple(map(round, own)), tuple(map(round, after)), arrivals / days, days)


def _bytes(group: Group, counts: tuple[DayCounts, DayCounts], day: int, days: float, cap: int | None) -> float:
    """Return the bytes that a group takes on a day. No cap applies to what never ends (orphans, what is kept for ever).

    Args:
        group: the group.
        counts: on which day from today the tasks that are there end; how many days those live that arrive.
        day: the day, from today.
        days: over how many days arrivals were counted.
        cap: the most tasks; None for no limit.
    """
    stock, lives = counts
    kept = kept_content = free = free_content = 0.0
    for end, count, content in stock.items():
        if end >= NEVER:
            free, free_content = free + count, free_content + content
        elif end > day or (day == 0 and stock is group.own):
            kept, kept_content = kept + count, kept_content + content
    for life, count, content in lives.items():
        share = min(day, life) / days
        if life >= NEVER:
            free, free_content = free + count * share, free_content + content * share
        else:
            kept, kept_content = kept + count * share, kept_content + content * share
    total = kept_content + kept * group.mean_excess
    if cap is not None and kept > cap:
        total *= cap / kept
    return total + free_content + free * group.mean_excess
