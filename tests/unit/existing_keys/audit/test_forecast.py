from asynq_ttl.existing_keys.audit.counts import NEVER, Tally
from asynq_ttl.existing_keys.audit.forecast import HORIZON_DAYS, forecast
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, Keep, Policy, Retention, Rule

DAY = 86_400
WEEK = Policy((Rule("r", archived=Retention(Keep.TTL, 7 * DAY), archived_max=50),))


def test_what_is_there_leaves_when_its_time_is_over() -> None:
    """Orphans stay as things are, and leave under the policy."""
    tally = Tally()
    group = tally.group("q", "archived")
    group.add_age(8 * DAY)
    for own, policy, count in ((30, 3, 10), (NEVER, 5, 20)):
        for _ in range(count):
            group.own.add(own, 100)
            group.policy.add(policy, 100)
    ahead = forecast(tally, WEEK)
    assert [ahead.own[day] for day in (0, 29, 30, 90)] == [3000, 3000, 2000, 2000]
    assert [ahead.policy[day] for day in (0, 2, 3, 4, 5)] == [3000, 3000, 2000, 2000, 0]
    assert ahead.arrivals == 0


def test_what_arrives_adds_up_to_its_life() -> None:
    """Seven tasks in seven days, that live for 30 or for 2 days; leaked ones add up for ever."""
    tally = Tally()
    group = tally.group("q", "completed")
    group.add_age(7 * DAY)
    for _ in range(7):
        group.own_lives.add(30 * DAY, 100)
        group.policy_lives.add(2 * DAY, 100)
    leak = tally.group("q", "archived")
    for _ in range(7):
        leak.own_lives.add(NEVER, 10)
    ahead = forecast(tally, WEEK)
    assert (ahead.arrivals, ahead.days) == (2.0, 7.0)
    assert [ahead.own[day] for day in (0, 10, 30, 90)] == [0, 1100, 3300, 3900]
    assert [ahead.policy[day] for day in (0, 1, 2, 90)] == [0, 100, 200, 200]


def test_caps_hold() -> None:
    """Asynq's own, and that of the policy."""
    tally = Tally()
    group = tally.group("q", "archived")
    group.add_age(3600)
    for _ in range(2 * OWN_ARCHIVE_CAP):
        group.own_lives.add(90 * DAY, 1)
        group.policy_lives.add(7 * DAY, 1)
    ahead = forecast(tally, WEEK)
    assert ahead.days == 1.0
    assert ahead.own[HORIZON_DAYS] == OWN_ARCHIVE_CAP
    assert ahead.policy[HORIZON_DAYS] == 50


def test_what_lives_for_seconds_takes_next_to_nothing() -> None:
    """4,500 tasks a day that live for 30 seconds are about two at any time, in whatever queues they are."""
    tally = Tally()
    for queue in ("p", "q"):
        group = tally.group(queue, "completed")
        group.add_age(7 * DAY)
        for _ in range(7 * 2250):
            group.policy_lives.add(30, 100)
    ahead = forecast(tally, WEEK)
    assert [ahead.policy[day] for day in (1, 90)] == [156, 156]
