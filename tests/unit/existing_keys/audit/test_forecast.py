"""What a forecast says, also beside what simulated months leave."""

from dataclasses import dataclass

import pytest

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.counts import NEVER, Tally
from asynq_ttl.existing_keys.audit.forecast import HORIZON_DAYS, forecast
from asynq_ttl.existing_keys.audit.tasks import TaskCounter
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, OWN_ARCHIVE_SECONDS, Keep, Policy, Retention, Rule
from support.scripted_database import NOW, task_of

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
        group.add_arrival(30 * DAY, 2 * DAY, 100)
    leak = tally.group("q", "archived")
    for _ in range(7):
        leak.add_arrival(NEVER, 0, 10)
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
        group.add_arrival(90 * DAY, 7 * DAY, 1)
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
            group.add_arrival(90 * DAY, 30, 100)
    ahead = forecast(tally, WEEK)
    assert [ahead.policy[day] for day in (1, 90)] == [156, 156]


GRACE = 60


@dataclass(frozen=True)
class Stream:
    """Tasks of one kind that end at a steady rate.

    Attributes:
        state: the state they enter.
        every: how many seconds lie between two of them.
        before: for how many seconds each has been kept until now, and is, as things are.
        after: for how many the policy keeps those that end from now on.
        timed: whether a rule gave those that are there their time, so that the policy leaves them as they are.
    """

    state: str
    every: int
    before: int
    after: int
    timed: bool = False

    def tasks(self) -> list[Task]:
        """Return those that are there after a month."""
        return [self._task(since) for since in self._ended(NOW - self.before + 1, NOW)]

    def left(self, day: int, life: int, stay: int) -> int:
        """Count those that are there some days from now.

        Args:
            day: how many.
            life: for how many seconds each is kept that ends from now on.
            stay: for how many each is that has ended before, counted from when it did.
        """
        then = NOW + day * DAY
        old = self._ended(max(NOW - self.before, then - stay) + 1, NOW)
        return len(old) + len(self._ended(max(NOW, then - life + 1), then))

    def _ended(self, begin: int, end: int) -> range:
        """Return when each ends that does so in some time."""
        start = NOW - 30 * DAY
        return range(start + max(-(-(begin - start) // self.every), 0) * self.every, end, self.every)

    def _task(self, since: int) -> Task:
        ttl_ms = (since + self.before + GRACE - NOW) * 1000 if self.timed else -1
        if self.state == "completed":
            due = since + self.before
            return task_of("completed", score=due, ttl_ms=ttl_ms, completed_at=since, retention_seconds=self.before)
        return task_of("archived", score=since, ttl_ms=ttl_ms)


@pytest.mark.parametrize(
    "stream",
    [
        Stream("completed", 4, 2 * 3600, 120),
        Stream("completed", 300, 10 * DAY, 20 * DAY),
        Stream("completed", 1, 60, 3600),
        Stream("completed", 60, 3600, 2 * DAY, timed=True),
        Stream("archived", 600, OWN_ARCHIVE_SECONDS, 7 * DAY),
        Stream("archived", 30, 3600, 2 * DAY, timed=True),
        Stream("archived", 200, 3 * DAY, 30, timed=True),
    ],
    ids=str,
)
def test_a_forecast_is_what_a_simulated_month_leaves(stream: Stream) -> None:
    """As things are, and under another policy: within three percent, whether tasks live for seconds or for months."""
    retention = Retention(Keep.TTL, stream.after)
    policy = Policy((Rule("r", archived=retention, completed=retention),), grace_seconds=GRACE)
    tally, tasks = Tally(), stream.tasks()
    counter = TaskCounter(tally, policy, NOW)
    for task in tasks:
        counter.count(task)
    ahead = forecast(tally, policy)
    assert ahead.arrivals == pytest.approx(DAY / stream.every, rel=0.03)
    size = tally.group("q", stream.state).content / len(tasks)
    for day in (1, 2, 7, 30):
        own = stream.left(day, stream.before, stream.before)
        after = stream.left(day, stream.after, stream.before if stream.timed else stream.after)
        assert ahead.own[day] == pytest.approx(own * size, rel=0.03, abs=size), day
        assert ahead.policy[day] == pytest.approx(after * size, rel=0.03, abs=size), day


def test_an_archive_that_is_full_has_lost_what_arrived() -> None:
    """By how old its oldest task is it is told how fast tasks come, and what a larger cap would keep."""
    larger = Policy((Rule("r", archived=Retention(Keep.TTL, 7 * DAY), archived_max=50_000),))
    tally = Tally()
    counter = TaskCounter(tally, larger, NOW)
    for number in range(OWN_ARCHIVE_CAP):
        counter.count(task_of("archived", score=NOW - 30 * number))
    ahead = forecast(tally, larger)
    size = tally.group("q", "archived").content / OWN_ARCHIVE_CAP
    assert ahead.arrivals == pytest.approx(DAY / 30, rel=0.01)
    assert ahead.own[30] == pytest.approx(OWN_ARCHIVE_CAP * size, rel=0.01)
    assert ahead.policy[30] == pytest.approx(7 * DAY / 30 * size, rel=0.01)
