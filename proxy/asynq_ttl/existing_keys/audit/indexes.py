"""Checks the lists and sorted sets of queues: which of their IDs have no task in the state they stand for.

Also remembers which IDs the lists held, for a list cannot be searched.

Invariants:

* Whether an entry has its task is read in one script execution, page by page; pages of many queues in one round trip.
* Memory is bounded by the number of IDs in lists: 8 bytes each, 50 while they are sorted.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b

from asynq_ttl.asynq.keys import queue_prefix, text_of
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.in_step import Walk, in_step
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.existing_keys.standing import LIVE, TERMINAL
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP

_PAGE = 200
LISTS = {"pending": "waiting-gone", "active": "active-gone"}
"""The lists of a queue, and the problem that an ID is there whose task is gone."""
_SORTED_SETS = {
    "archived": "archived",
    "completed": "completed",
    "scheduled": "scheduled",
    "retry": "retry",
    "lease": "active",
    "deadlines": "active",
}
# So many keys are measured in one round trip.
_MEASURED = 50


class Indexes:
    """The lists and sorted sets of an audit's queues.

    Args:
        database: where.
        advance: is called with the number of IDs of each page that is checked.
    """

    def __init__(self, database: Database, advance: Callable[[int], None] = lambda _: None) -> None:
        self._database = database
        self._advance = advance
        # By queue and list, the sorted 64-bit hashes of the IDs in it.
        self._listed: dict[tuple[str, str], array[int]] = {}

    def read_lists(self, places: Sequence[Place], tally: Tally | None = None) -> None:
        """Read lists, and remember which IDs are in them.

        Args:
            places: the lists; sorted sets among them are passed over.
            tally: where IDs that have no task are counted; None to count nothing.
        """
        lists = [place for place in places if place.name in LISTS]
        in_step(self._database, "existing_keys/check_list", [(place, self._read_list(place, tally)) for place in lists])

    def lists(self, task: Task) -> bool:
        """Say whether the list of a task's state held it when it was read last."""
        hashes = self._listed.get((task.queue, task.state))
        if hashes is None:
            return False
        wanted = _hash(task.id)
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted

    def check_sorted_sets(self, places: Sequence[Place], tally: Tally) -> None:
        """Count in a tally the entries of sorted sets that have no task in the state the set stands for."""
        sets = [place for place in places if place.name in _SORTED_SETS]
        in_step(self._database, "existing_keys/check_index", [(place, self._check_set(place, tally)) for place in sets])

    def bytes_of(self, places: Sequence[Place]) -> Iterator[tuple[str, int]]:
        """Ask Redis how many bytes lists and sorted sets take; yield the queue and the bytes of each.

        The bytes are 0 where the user may not ask.
        """
        for first in range(0, len(places), _MEASURED):
            page = places[first : first + _MEASURED]
            self._database.pace.spend(len(page))
            sizes = self._database.memory_usage([place.key for place in page], samples=5)
            for place, size in zip(page, sizes, strict=True):
                yield place.queue, size or 0

    def _read_list(self, place: Place, tally: Tally | None) -> Walk:
        """Read a list page by page."""
        hashes, first = array("Q"), 0
        ids: list[bytes] = [b""] * _PAGE
        while len(ids) == _PAGE:
            ids, gone = yield (place.key, queue_prefix(place.queue), first, _PAGE)
            self._database.pace.spend(1 + len(ids))
            hashes.extend(map(_hash, ids))
            first += len(ids)
            if tally is not None:
                for task_id in gone:
                    tally.add_problem(LISTS[place.name], f"{place.queue}: {text_of(task_id)} in {place.name}")
                self._advance(len(ids))
        self._listed[place.queue, place.name] = array("Q", sorted(hashes))

    def _check_set(self, place: Place, tally: Tally) -> Walk:
        """Check a sorted set page by page."""
        state, entries, count = _SORTED_SETS[place.name], 0, _PAGE
        score, task_id = b"", b""
        while count == _PAGE:
            count, score, task_id, *wrong = yield (
                place.key,
                queue_prefix(place.queue),
                state,
                _PAGE,
                score,
                task_id,
            )
            self._database.pace.spend(1 + count)
            entries += count
            self._advance(count)
            for wrong_id, found in zip(map(text_of, wrong[::2]), map(text_of, wrong[1::2]), strict=True):
                example = f"{place.queue}: {wrong_id} in {place.name}, the task is {found or 'gone'}"
                tally.add_problem(problem_of(state, found), example)
        if place.name == "archived" and entries >= OWN_ARCHIVE_CAP:
            tally.add_problem("at-cap", f"{place.queue}: {entries:,}")


def problem_of(state: str, found: str) -> str:
    """Return the problem of an entry whose task is in another state than its set stands for.

    Args:
        state: the state that the set stands for.
        found: the state of the task; empty where it is gone.
    """
    if state in TERMINAL:
        return "ghost-live" if found in LIVE else "ghost"
    return "active-gone" if state == "active" else "waiting-gone"


def _hash(task_id: bytes) -> int:
    return int.from_bytes(blake2b(task_id, digest_size=8).digest(), "big")
