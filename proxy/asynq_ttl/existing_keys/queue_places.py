"""Asks which lists and sorted sets each queue has, and how long they are, before anybody walks through them.

Most queues have few of them, so a walk through thousands of queues asks only for what is there.

Invariant: what is of another type than Asynq has at its place is taken down in `Database.left_out`, and is as good as
not there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from asynq_ttl.asynq.key_types import OF_QUEUE
from asynq_ttl.asynq.keys import index_key, queue_prefix
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.script_runs import Call

NAMES = ("pending", "active", "scheduled", "retry", "archived", "completed", "lease", "deadlines")
"""The lists and sorted sets of a queue that say where its tasks are."""
_QUEUES = 50


@dataclass(frozen=True, slots=True)
class Place:
    """A list or sorted set of a queue, by the name at the end of its key, and how many IDs it has."""

    queue: str
    name: str
    length: int

    @property
    def key(self) -> bytes:
        """Its key."""
        return index_key(self.queue, self.name)


def queue_places(database: Database, queues: Sequence[str], names: Sequence[str] = NAMES) -> Iterator[Place]:
    """Yield the lists and sorted sets that there are, queue by queue.

    Args:
        database: where.
        queues: the names of the queues.
        names: which of `NAMES` are asked for.
    """
    for first in range(0, len(queues), _QUEUES):
        page = queues[first : first + _QUEUES]
        calls: list[Call] = [(queue_prefix(queue), queue_prefix(queue), *names) for queue in page]
        database.pace.spend(len(page))
        for queue, found in zip(page, database.run_all("existing_keys/queue_places", calls), strict=True):
            for name, kind, length in zip(names, found[::2], found[1::2], strict=True):
                if kind == OF_QUEUE[name]:
                    yield Place(queue, name, length)
                elif kind != b"none":
                    database.left_out.add_wrong(index_key(queue, name))
