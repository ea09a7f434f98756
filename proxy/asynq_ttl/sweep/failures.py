"""What Redis refuses at one place does not stop the sweeper elsewhere.

Invariants:

* A refusal at one place (a database, an index, a list) ends the work at that place, and at no other.
* Every refusal is counted. A place is named in the log when it begins to fail, and not again before it has been without
  a refusal for `FORGOTTEN_SECONDS`: not every round comes to every place.
* A queue that has moved to another node of a cluster is no failure: whoever sweeps that node goes on.
* What is kept is bounded: at most `MOST_NAMED` places have a name, in the log too.
* A Redis that cannot be reached, or takes no writes, is not the fault of a place: that ends the round. What ends one
  round after the other is named once, and again after `FORGOTTEN_SECONDS`.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from redis.exceptions import AskError, ReadOnlyError, ResponseError

from asynq_ttl.asynq.keys import printable
from asynq_ttl.policy.rules import State

_log = logging.getLogger("asynq_ttl.sweeper")

FORGOTTEN_SECONDS = 600
MOST_NAMED = 20
# How refusals begin that every other place would meet too.
_EVERYWHERE = ("BUSY ", "CLUSTERDOWN ", "MASTERDOWN ", "MISCONF ", "NOREPLICAS ")


class Failing(NamedTuple):
    """A place that Redis refuses: what it said last, and when (seconds since the epoch)."""

    place: str
    error: str
    at: float


class Failures:
    """The places at which rounds fail.

    Args:
        moves: whether queues may move to another node.

    Attributes:
        refusals: how often Redis has refused something at one place, by the number of the database.
    """

    def __init__(self, *, moves: bool = False) -> None:
        self._moves = moves
        self.refusals: Counter[str] = Counter()
        self._failing: dict[str, Failing] = {}
        self._in_round = 0
        self._ended_by, self._ended_at = "", 0.0

    def places(self) -> list[Failing]:
        """Return those that fail and have a name, in the order in which they began to."""
        oldest = time.time() - FORGOTTEN_SECONDS
        return [failing for failing in self._failing.values() if failing.at > oldest]

    @contextmanager
    def kept_to(self, database: int, queue: str = "", what: State | str = "") -> Iterator[None]:
        """Note what Redis refuses inside, instead of raising it.

        Args:
            database: the number of the database.
            queue: the queue's name; empty if it is about the database as a whole.
            what: the index or list of the queue; empty if it is about the queue as a whole.

        Raises:
            ResponseError: Redis would refuse this at every other place too.
        """
        try:
            yield
        except ResponseError as error:
            if isinstance(error, ReadOnlyError) or str(error).startswith(_EVERYWHERE):
                raise
            if self._moves and isinstance(error, AskError):
                return
            self._in_round += 1
            self.refusals[str(database)] += 1
            name = what.value if isinstance(what, State) else what
            whose = f"{name} of queue" if name else "queue"
            where = f"{whose} {printable(queue)} in " if queue else ""
            self._note(f"{where}database {database}", words_of(error))

    def end_round(self, problem: str = "") -> int:
        """Return how often Redis has refused something in the round; forget the places that are well again.

        Args:
            problem: what has ended the round; empty where it came to its end.
        """
        if problem != self._ended_by or time.time() - self._ended_at > FORGOTTEN_SECONDS:
            self._ended_by, self._ended_at = problem, time.time()
            if problem:
                _log.warning("sweeping failed, the next round tries again: %s", problem)
        self._failing = {failing.place: failing for failing in self.places()}
        count, self._in_round = self._in_round, 0
        return count

    def _note(self, place: str, error: str) -> None:
        known = place in self._failing
        if not known and len(self._failing) == MOST_NAMED:
            return
        self._failing[place] = Failing(place, error, time.time())
        if not known:
            _log.warning("%s cannot be swept, the rest is: %s", place, error)


def words_of(error: Exception) -> str:
    """Return what has gone wrong, in words."""
    if isinstance(error, AskError):  # MOVED is one too
        return f"slot {error.slot_id} has moved to {error.host}:{error.port}"
    return str(error) or type(error).__name__
