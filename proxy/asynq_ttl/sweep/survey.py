"""What is known of the queues, and when each has to be looked at anew. Pure: finds and times are told to it.

A place is one of a queue's indexes or lists. One script surveys the places of many queues at once and says of each how
many members it has, whether one of them may have something wrong with it, and when a task can be due. Only where a
survey has found something does anything else ask Redis. So a round costs what is due and what is odd, and next to
nothing for a queue that rests, or that is only a name.

Invariants:

* Every queue is surveyed again within `pass_seconds` and one round. That is less than two thirds of the grace.
* From the moment at which a task can be due, its index is open in every round, until a survey says otherwise.
* So each task is looked at between the end of its retention and the end of its grace. Where an index is small, the
  survey has looked at each of its members; larger ones are also passed by the patrol.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

# A place with no more members is looked through by the survey itself.
SMALL = 10
# Queues that one script surveys. What it costs Redis is measured by `bench/run.py queues`.
BATCH = 100
# In this many rounds every queue is surveyed once.
ROUNDS_IN_PASS = 6
# A pass and one round more take no more than this part of the grace.
PART_OF_GRACE = 0.6
PLACES = ("completed", "archived", "active", "pending", "retry")


class Queue(NamedTuple):
    """A queue, by the number of its database and its name."""

    database: int
    name: str


class Found(NamedTuple):
    """What a survey has found at a place.

    Attributes:
        members: how many it has; of a list no more than `SMALL` and one.
        odd: whether a member may have something wrong with it, so that it has to be looked at.
        due: when a task can be due, in Unix seconds by the clock of Redis; None for never.
        untimed: a digest of the ended tasks without a TTL; empty where there are none, or too many members to see.
        held: how many of its tasks are held.
    """

    members: int
    odd: bool
    due: int | None
    untimed: str = ""
    held: int = 0


Places = dict[str, Found]


def pass_seconds(interval_seconds: float, grace_seconds: float) -> float:
    """Return the time in which every queue is surveyed.

    Args:
        interval_seconds: the time between rounds, at most a quarter of the grace.
        grace_seconds: the grace of the policy.
    """
    return min(interval_seconds * ROUNDS_IN_PASS, grace_seconds * PART_OF_GRACE - interval_seconds)


class Survey:
    """What is known of the queues. Times are seconds of a clock that never goes back."""

    def __init__(self) -> None:
        # By database: when its queues have to be listed again.
        self._list_at: dict[int, float] = {}
        self._survey_at: dict[Queue, float] = {}
        # Without queues and places that have no members.
        self._places: dict[Queue, Places] = {}

    def unlisted(self, databases: Iterable[int], at: float) -> list[int]:
        """Return the databases whose queues have to be listed now; any other database is forgotten."""
        databases = sorted(databases)
        gone = self._list_at.keys() - databases
        self._list_at = {database: self._list_at.get(database, at) for database in databases}
        for queue in [queue for queue in self._survey_at if queue.database in gone]:
            self._forget(queue)
        return [database for database in databases if self._list_at[database] <= at]

    def listed(self, database: int, names: Iterable[str], at: float, within: float) -> None:
        """Take note of the queues of a database; it is listed again within some seconds."""
        self._list_at[database] = at + within * _early()
        now = {Queue(database, name) for name in names}
        for queue in [queue for queue in self._survey_at if queue.database == database and queue not in now]:
            self._forget(queue)
        for queue in now - self._survey_at.keys():
            self._survey_at[queue] = at

    def names(self, database: int) -> set[str]:
        """Return the names of the queues that were listed last in a database."""
        return {queue.name for queue in self._survey_at if queue.database == database}

    def stale(self, at: float) -> list[Queue]:
        """Return the queues that have to be surveyed now, by database."""
        return sorted(queue for queue, when in self._survey_at.items() if when <= at)

    def surveyed(
        self,
        queue: Queue,
        answer: Sequence[int | None],
        at: float,
        within: float,
        untimed: Mapping[str, str] = MappingProxyType({}),
        *,
        held: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Take note of what `survey.lua` says of a queue; it is surveyed again within some seconds.

        Args:
            queue: the queue.
            answer: three values for each place.
            at: when.
            within: how many seconds.
            untimed: digests of the tasks without a TTL, by place.
            held: how many tasks are held, by place.
        """
        self._survey_at[queue] = at + within * _early()
        places = {
            place: Found(members or 0, bool(odd), due, untimed.get(place, ""), held.get(place, 0))
            for place, members, odd, due in zip(PLACES, answer[::3], answer[1::3], answer[2::3], strict=True)
            if members
        }
        self._places.pop(queue, None)
        if places:
            self._places[queue] = places

    def queues(self) -> KeysView[Queue]:
        """Return all queues that are swept."""
        return self._survey_at.keys()

    def untimed(self) -> list[tuple[Queue, str, str]]:
        """Return the small indexes with tasks that have no TTL, each with a digest of these."""
        return [(queue, place, found.untimed) for queue, place, found in self._all() if found.untimed]

    def again(self, queue: Queue) -> None:
        """Have a queue surveyed in the next round: what was known of it has changed."""
        if queue in self._survey_at:
            self._survey_at[queue] = 0

    def checked(self, queue: Queue, place: str) -> None:
        """Take note that what was odd at a place has been looked at."""
        places = self._places.get(queue, {})
        if place in places:
            places[place] = places[place]._replace(odd=False)

    @property
    def anything(self) -> bool:
        """Whether any queue has any member."""
        return bool(self._places)

    @property
    def held(self) -> int:
        """How many tasks are held."""
        return sum(found.held for _, _, found in self._all())

    def holds(self, queue: Queue) -> bool:
        """Say whether a queue has members in the index of a terminal state."""
        return not {"completed", "archived"}.isdisjoint(self._places.get(queue, {}))

    def due(self, now: int, slack: float) -> list[tuple[Queue, str]]:
        """Return the indexes in which a task can be due.

        Args:
            now: Unix seconds by the clock of Redis.
            slack: how much earlier in a large index, since the survey has not looked at each of its members.
        """
        return [
            (queue, place)
            for queue, place, found in self._all()
            if found.due is not None and found.due - (slack if found.members > SMALL else 0) <= now
        ]

    def odd(self) -> list[tuple[Queue, str]]:
        """Return the places with something odd, one database after the other, in any order: none is always the last."""
        places = [(queue, place) for queue, place, found in self._all() if found.odd]
        ranks: dict[int, float] = defaultdict(random.random)
        return sorted(places, key=lambda place: (ranks[place[0].database], random.random()))  # noqa: S311 - no secret

    def larger(self, *states: str, than: int = SMALL) -> Iterator[tuple[Queue, str, int]]:
        """Yield places with more members than this, and how many; the survey looks through those of up to `SMALL`."""
        for queue, place, found in self._all():
            if found.members > than and place in states:
                yield queue, place, found.members

    def _all(self) -> Iterator[tuple[Queue, str, Found]]:
        for queue, places in self._places.items():
            for place, found in places.items():
                yield queue, place, found

    def _forget(self, queue: Queue) -> None:
        del self._survey_at[queue]
        self._places.pop(queue, None)


def _early() -> float:
    """Return a part of a time, drawn anew, so that queues that were surveyed together do not stay together."""
    return random.uniform(0.8, 1)  # noqa: S311 - no secret
