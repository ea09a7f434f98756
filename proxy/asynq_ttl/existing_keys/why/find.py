"""Looks for a task by its ID, in one queue or in many.

Invariants:

* The keyspace is never scanned: what a queue costs is a few look-ups, and of its lists at most `_DEEP` IDs, or
  `_SHALLOW` of each where there are many queues.
* Nothing is changed. A key of another type than Asynq has at its place is named, and hides nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from asynq_ttl.asynq.keys import queue_prefix, task_prefix, text_of
from asynq_ttl.asynq.task import Task, task_of_row
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.script_runs import Call

_SORTED = ("archived", "completed", "scheduled", "retry", "lease", "deadlines")
_LISTS = ("pending", "active")
_DEEP, _SHALLOW = 1_000, 100
_QUEUES = 50


@dataclass(frozen=True, slots=True)
class UniquenessLock:
    """The uniqueness lock that a task names.

    Attributes:
        key: its key.
        holder: the ID of the task that holds it; empty where nobody does.
        left_ms: for how many milliseconds; -1 for ever, -2 where nobody does.
    """

    key: str
    holder: str
    left_ms: int


@dataclass(frozen=True, slots=True)
class ListPlace:
    """A list of a queue, and where in it an ID stands.

    Attributes:
        number: its place, counted from the end that workers take from, so that 1 is the next; 0 where it is not among
            the IDs that were looked at.
        length: how many IDs the list has.
        looked_at: how many of them were looked at.
    """

    number: int
    length: int
    looked_at: int


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What a queue has of a task.

    Attributes:
        database: the number of the database.
        queue: the queue's name.
        task: the task; one that does not exist where there is only its ID.
        scores: its scores, by the sorted set in which its ID stands.
        lists: its places, by the list. Every list of a queue is there.
        lock: its uniqueness lock; None where it names none.
        paused: whether the queue is paused.
        wrong: keys that were met and are of another type than Asynq has at their place.
    """

    database: int
    queue: str
    task: Task
    scores: dict[str, float]
    lists: dict[str, ListPlace]
    lock: UniquenessLock | None
    paused: bool
    wrong: tuple[str, ...]

    @property
    def stands(self) -> list[str]:
        """The names of the sorted sets and lists in which its ID stands."""
        return [*self.scores, *(name for name, place in self.lists.items() if place.number)]


def find(database: Database, queues: Sequence[str], task_id: bytes) -> Iterator[Whereabouts]:
    """Yield what each queue has of a task; nothing of a queue that has nothing of it.

    Args:
        database: where.
        queues: the names of the queues.
        task_id: the task's ID.
    """
    most = _DEEP if len(queues) == 1 else _SHALLOW
    for first in range(0, len(queues), _QUEUES):
        page = queues[first : first + _QUEUES]
        calls: list[Call] = [(task_prefix(queue) + task_id, queue_prefix(queue), task_id, most) for queue in page]
        for queue, reply in zip(page, database.run_all("existing_keys/find_task", calls), strict=True):
            found = _whereabouts(database.upstream.database, task_of_row(queue, task_id, reply[0]), reply, most)
            if found.task.exists or found.stands or found.wrong:
                yield found


def _whereabouts(database: int, task: Task, reply: list[Any], most: int) -> Whereabouts:
    """Return what a reply of `find_task.lua` says of a task."""
    _, scores, places, (holder, held_ms, lock), paused, wrong = reply
    return Whereabouts(
        database,
        task.queue,
        task,
        {name: float(score) for name, score in zip(_SORTED, scores, strict=True) if score is not None},
        {
            name: ListPlace(number, length, min(most, length))
            for name, number, length in zip(_LISTS, places[::2], places[1::2], strict=True)
        },
        UniquenessLock(text_of(lock), text_of(holder), held_ms) if lock else None,
        paused == b"string",
        tuple(dict.fromkeys(text_of(key) for key in wrong)),
    )
