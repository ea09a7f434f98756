"""Checks the lists and sorted sets of queues: which of their IDs have no task in the state they stand for.

Also remembers which IDs the lists held, for a list cannot be searched.

Invariants:

* Whether an entry has its task is read in one script execution, page by page.
* Memory is bounded by the number of IDs in lists: 8 bytes each, 50 while they are sorted.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from hashlib import blake2b

from asynq_ttl.asynq.keys import index_key, queue_prefix, text_of
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.standing import LIVE, TERMINAL
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP

_PAGE = 200
LISTS = {"pending": "waiting-gone", "active": "active-gone"}
"""The lists of a queue, and the problem that an ID is there whose task is gone."""
_SORTED_SETS = (
    ("archived", "archived"),
    ("completed", "completed"),
    ("scheduled", "scheduled"),
    ("retry", "retry"),
    ("lease", "active"),
    ("deadlines", "active"),
)
# Lists and sorted sets whose memory counts as a queue's own.
_MEASURED = ("pending", "active", "scheduled", "retry", "archived", "completed", "lease", "deadlines")


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

    def read_lists(self, queue: str, tally: Tally | None = None) -> None:
        """Read a queue's lists, and remember which IDs are in them.

        Args:
            queue: the queue's name.
            tally: where IDs that have no task are counted; None to count nothing.
        """
        for name, code in LISTS.items():
            hashes = array("Q")
            for ids, gone in self._list_pages(queue, name):
                hashes.extend(map(_hash, ids))
                if tally is None:
                    continue
                for task_id in gone:
                    tally.add_problem(code, f"{queue}: {text_of(task_id)} in {name}")
                self._advance(len(ids))
            self._listed[queue, name] = array("Q", sorted(hashes))

    def lists(self, task: Task) -> bool:
        """Say whether the list of a task's state held it when it was read last."""
        hashes = self._listed.get((task.queue, task.state))
        if hashes is None:
            return False
        wanted = _hash(task.id)
        place = bisect_left(hashes, wanted)
        return place < len(hashes) and hashes[place] == wanted

    def check_sorted_sets(self, queue: str, tally: Tally) -> None:
        """Count in a tally the entries of a queue's sorted sets that have no task in the state the set stands for."""
        for name, state in _SORTED_SETS:
            entries = 0
            for count, wrong in self._entry_pages(queue, name, state):
                entries += count
                self._advance(count)
                for task_id, found in wrong:
                    example = f"{queue}: {text_of(task_id)} in {name}, the task is {found or 'gone'}"
                    tally.add_problem(problem_of(state, found), example)
            if name == "archived" and entries >= OWN_ARCHIVE_CAP:
                tally.add_problem("at-cap", f"{queue}: {entries:,}")

    def bytes_of(self, queue: str) -> int:
        """Ask Redis how many bytes a queue's lists and sorted sets take; 0 where the user may not ask."""
        keys = [index_key(queue, name) for name in _MEASURED]
        return sum(size or 0 for size in self._database.memory_usage(keys, samples=5))

    def _list_pages(self, queue: str, name: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
        """Yield the IDs of a list, and those of them that have no task, in pages."""
        first, key, prefix = 0, index_key(queue, name), queue_prefix(queue)
        while True:
            self._database.pace.spend(_PAGE)
            ids, gone = self._database.run("existing_keys/check_list", key, prefix, first, _PAGE)
            yield ids, gone
            if len(ids) < _PAGE:
                return
            first += len(ids)

    def _entry_pages(self, queue: str, name: str, state: str) -> Iterator[tuple[int, list[tuple[bytes, str]]]]:
        """Yield, page by page, how many entries a sorted set has, and ID and state of each task that is wrong there."""
        key, prefix = index_key(queue, name), queue_prefix(queue)
        score, task_id = b"", b""
        while True:
            self._database.pace.spend(_PAGE)
            count, score, task_id, *wrong = self._database.run(
                "existing_keys/check_index", key, prefix, state, _PAGE, score, task_id
            )
            yield count, list(zip(wrong[::2], map(text_of, wrong[1::2]), strict=True))
            if count < _PAGE:
                return


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
