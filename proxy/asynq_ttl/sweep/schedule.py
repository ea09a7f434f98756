"""What the sweeper looks at, and when. Pure: it asks no Redis and reads no clock; time and finds are told to it.

A round has three parts, each of them bounded:

* Pages in which due tasks can be, of the indexes of which the survey says so. That follows from the index scores: a
  completed task is due at its score, an archived one at its score plus the retention of its rule. So each retention of
  a queue has a narrow window of scores.
* The patrol: a slow round trip through the large terminal indexes. It finds what the windows miss: tasks by other
  policies, by clocks that disagree, and ghosts. It is quick enough to pass every entry twice within the grace, or
  within a minute where the grace is longer, up to a limit.
* A slow round trip through the tasks that wait, where many do in `pending` or `retry`.

The survey (see `survey`) itself looks through whatever is small.

Invariant: none of the work of a round depends on the size of the keyspace.
"""

import random
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep, Policy, State

# Members of an index that one script looks at. What such a page costs Redis is measured by `bench/sweeper.py`.
PAGE_SIZE = 500
# Pages full of due tasks that a round may remove. What is left the next round does.
DUE_PAGES = 200
# Members that the patrol passes in a second, at least. The most is enough to pass indexes of 300,000 entries twice
# within the usual grace of 60 s.
PATROL_PER_SECOND = 500
MOST_PATROL_PER_SECOND = 10_000
# Waiting tasks that are looked at in a second: 120,000 within the usual grace. That is the least time which is left to
# the key of a task that was run past the sidecar and kept its TTL.
WAITING_PER_SECOND = 2_000
WAITING_STATES = ("pending", "retry")
# Fixed cost of one page, counted in members.
PAGE_COST = 20
# A task is due for as long as the grace lasts. That has room for this many rounds, so that one that is late or fails is
# not the only one in that time.
ROUNDS_IN_GRACE = 4
# The pause between two rounds is drawn anew each time, so that the sidecars of a fleet do not all ask for the lock at
# the same moment. It is between these parts of the interval.
SHORTEST_PAUSE, LONGEST_PAUSE = 0.8, 1.2
# A task of whose retention nothing is known is due this long before its key expires, or a grace before, if that is
# shorter. Only the patrol finds such a task, so where it takes longer to pass every entry, the task is due earlier.
UNKNOWN_SECONDS = 60
# Queues whose retentions are remembered.
_RETENTIONS_LIMIT = 100_000


class Index(NamedTuple):
    """The index of a terminal state of a queue."""

    database: int
    queue: str
    state: State


class WaitingTasks(NamedTuple):
    """The tasks of a queue that wait in a state, one of `WAITING_STATES`."""

    database: int
    queue: str
    state: str


class Window(NamedTuple):
    """A range of index scores, both ends included, as Redis reads them."""

    lowest: str
    highest: str


class Looked(NamedTuple):
    """What looking at a page came to.

    Attributes:
        examined: how many members the page had; fewer than `PAGE_SIZE` where it was the last one.
        kept: how many of them are still there, so that the next page starts behind them.
    """

    examined: int
    kept: int


class Margins(NamedTuple):
    """How soon a key has to expire for something to be done about it, whatever the score of its task says.

    Attributes:
        keep_ms: a key with fewer milliseconds left gets the whole grace again, since its task is handed over before it
            goes; empty where tasks are not handed over.
        any_ms: with so many milliseconds left, or fewer, any task is due.
        unknown_ms: the same for a task of whose retention nothing is known.
    """

    keep_ms: int | str
    any_ms: int
    unknown_ms: int


class DuePages:
    """The pages in which due tasks can be: as many of them as a round may take."""

    def __init__(self) -> None:
        self._left = DUE_PAGES
        self._last = Looked(0, 0)

    @property
    def spent(self) -> bool:
        """Whether the round took all the pages it may, so that due tasks can be left."""
        return self._left <= 0

    def begin_round(self) -> None:
        """Start counting anew."""
        self._left = DUE_PAGES

    def pages(self, windows: Iterable[Window]) -> Iterator[tuple[Window, int]]:
        """Yield a window and an offset in it for each page to look at.

        Tell `looked` of a page before asking for the next. A window ends with a page that is not full, or of which
        nothing was told.

        Args:
            windows: where due tasks of an index can be.
        """
        for window in windows:
            offset = 0
            while self._left > 0:
                self._last = Looked(0, 0)
                yield window, offset
                if self._last.examined < PAGE_SIZE:
                    break
                self._left -= 1
                offset += self._last.kept

    def looked(self, looked: Looked) -> None:
        """Take note of the page that was yielded last."""
        self._last = looked


_Place = TypeVar("_Place", bound=Hashable)


class RoundTrip(Generic[_Place]):
    """A slow way through all pages of some places. Each round goes on where the one before it stopped."""

    def __init__(self) -> None:
        # How far each place has been passed; 0 where it begins anew.
        self._passed: dict[_Place, int] = {}
        self._left = 0
        self._last = Looked(0, 0)

    def pages(self, places: Iterable[_Place], members: int) -> Iterator[tuple[_Place, int]]:
        """Yield a place and the position of its first member for each page to look at.

        Tell `looked` of a page before asking for the next. A page of which nothing was told is yielded again in the
        next round; in this one the next place follows.

        Args:
            places: those there are; how far any other was passed is forgotten.
            members: how many may be looked at in this round. A page is looked at in any case, and the last page may
                go beyond.
        """
        self._passed = {place: self._passed.get(place, 0) for place in places}
        self._left = max(members, PAGE_SIZE)
        # What was begun is ended first. Otherwise in any order, so that none is always left over.
        order = sorted(self._passed, key=lambda place: (self._passed[place] == 0, random.random()))  # noqa: S311 - no secret
        for place in order:
            more = True
            while more and self._left > 0:
                self._last = Looked(0, 0)
                yield place, self._passed[place]
                more = self._last.examined == PAGE_SIZE

    def looked(self, place: _Place, looked: Looked) -> None:
        """Take note of the page that was yielded last.

        Args:
            place: where it is.
            looked: what was there.
        """
        self._last = looked
        self._left -= looked.examined + PAGE_COST
        self._passed[place] = self._passed[place] + looked.kept if looked.examined == PAGE_SIZE else 0


class Schedule:
    """When a sweeper does what, by the policy in force at that moment.

    Args:
        interval_seconds: the longest time between rounds.
    """

    def __init__(self, interval_seconds: float) -> None:
        self._longest_interval = interval_seconds
        # The large terminal indexes, with how many members each has.
        self._sizes: dict[Index, int] = {}
        self._policy: Policy | None = None
        self._retentions: dict[str, tuple[int, ...]] = {}
        self.due = DuePages()
        self.patrol: RoundTrip[Index] = RoundTrip()
        self.waiting: RoundTrip[WaitingTasks] = RoundTrip()

    def interval_seconds(self, policy: Policy) -> float:
        """Return the time between rounds: the longest one, or a shorter one so that the grace has room for some."""
        return min(self._longest_interval, policy.grace_seconds / ROUNDS_IN_GRACE)

    def pause_seconds(self, policy: Policy) -> float:
        """Return the time until the next round, a little more or less than the interval."""
        return self.interval_seconds(policy) * random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)  # noqa: S311 - no secret

    def begin_round(self, sizes: Mapping[Index, int]) -> None:
        """Begin a round.

        Args:
            sizes: the large terminal indexes, with how many members each has.
        """
        self._sizes = dict(sizes)
        self.due.begin_round()

    @property
    def _patrol_members(self) -> int:
        """What passing every large index costs, counted in members."""
        return sum(self._sizes.values()) + PAGE_COST * len(self._sizes)

    def margins(self, policy: Policy, *, hands_over: bool = False) -> Margins:
        """Return how soon a key has to expire for its task to be due whatever its score says.

        Where tasks are handed over, a sink can make rounds slow, so half the grace is left to find a key that expires.

        Args:
            policy: the policy in force.
            hands_over: whether tasks are handed over before they go.
        """
        # Within this time there is one more round, even after the longest pause.
        last_round_ms = int(self.interval_seconds(policy) * 1250)
        unknown = max(UNKNOWN_SECONDS, 2 * self._patrol_members // MOST_PATROL_PER_SECOND)
        if hands_over:
            half_ms = policy.grace_seconds * 500
            return Margins(half_ms, last_round_ms, half_ms)
        return Margins("", last_round_ms, min(policy.grace_seconds * 1000, unknown * 1000))

    def windows(self, policy: Policy, index: Index, now: int) -> Iterator[Window]:
        """Yield the ranges of scores in which tasks can have become due.

        Each begins a grace early, and ends a grace late, but at most a minute: that far the clocks of workers and of
        Redis may disagree. The patrol finds what disagrees by more.

        Args:
            policy: the policy in force.
            index: where the tasks are.
            now: the time in Unix seconds, by the clock of Redis.
        """
        slack = policy.grace_seconds
        ahead = min(slack, UNKNOWN_SECONDS)
        if index.state is State.COMPLETED:
            yield Window("-inf", str(now + ahead))
            return
        for seconds in self.retentions(policy, index.queue):
            lowest = now - seconds - self.looks_back_seconds(policy)
            yield Window(str(lowest), str(now - seconds + ahead))

    def due_pages(self, policy: Policy, index: Index, now: int) -> Iterator[tuple[Window, int]]:
        """Yield the pages in which due tasks of an index can be; tell `due.looked` of each.

        Args:
            policy: the policy in force.
            index: where the tasks are.
            now: the time in Unix seconds, by the clock of Redis.
        """
        return self.due.pages(self.windows(policy, index, now))

    def patrol_pages(self, policy: Policy) -> Iterator[tuple[Index, int]]:
        """Yield the pages of the patrol's next round; tell `patrol.looked` of each.

        Args:
            policy: the policy in force.
        """
        per_second = 2 * self._patrol_members / min(policy.grace_seconds, UNKNOWN_SECONDS)
        per_second = min(max(per_second, PATROL_PER_SECOND), MOST_PATROL_PER_SECOND)
        return self.patrol.pages(self._sizes, int(per_second * self.interval_seconds(policy)))

    def waiting_pages(self, policy: Policy, places: Iterable[WaitingTasks]) -> Iterator[tuple[WaitingTasks, int]]:
        """Yield the pages of waiting tasks that this round looks at; tell `waiting.looked` of each.

        Args:
            policy: the policy in force.
            places: where many tasks wait.
        """
        return self.waiting.pages(places, int(WAITING_PER_SECOND * self.interval_seconds(policy)))

    def looks_back_seconds(self, policy: Policy) -> int:
        """Return how long ago a task may have become due that is still looked for by its score."""
        return policy.grace_seconds + int(self._longest_interval)

    def retentions(self, policy: Policy, queue: str) -> tuple[int, ...]:
        """Return what `archive_retentions` does, remembered as long as the policy stays the same."""
        if policy is not self._policy or len(self._retentions) > _RETENTIONS_LIMIT:
            self._policy, self._retentions = policy, {}
        found = self._retentions.get(queue)
        if found is None:
            found = self._retentions[queue] = tuple(archive_retentions(policy, queue))
        return found


def archive_retentions(policy: Policy, queue: str) -> list[int]:
    """Return the retentions that archived tasks of a queue can have by a policy, in seconds, shortest first."""
    rules = policy.queue_rules(queue, State.ARCHIVED)
    found = {
        rule.archived.seconds if rule.archived.keep is Keep.TTL else OWN_ARCHIVE_SECONDS
        for rule in rules
        if rule.archived is not None and rule.archived.keep in (Keep.TTL, Keep.OWN)
    }
    limits = policy.archive_limits(queue)
    if limits is not None and rules[-1].types and limits.outlasts(OWN_ARCHIVE_SECONDS):
        found.add(OWN_ARCHIVE_SECONDS)  # what no rule matches
    return sorted(found)
