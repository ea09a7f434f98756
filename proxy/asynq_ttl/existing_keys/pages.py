"""Reads the tasks of a database page by page: through the keyspace, or through one index.

Invariants:

* Nothing is changed, and nothing large is read at once; see `database`.
* A page is one script execution, so state, score, TTL and message of a task are of one moment.
* A walk through the keyspace promises what SCAN does: a key that exists all the time is seen, once or more often.
* A walk through an index misses no entry that is there all the time, and yields none twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from asynq_ttl.asynq.keys import TASK_PATTERN, index_key, queue_of_task, queue_prefix, task_prefix
from asynq_ttl.asynq.task import Entry, Task, task_of_row
from asynq_ttl.existing_keys.database import PAGE_BYTES, PAGE_TASKS, Database
from asynq_ttl.policy.glob import Glob

_SCAN_COUNT = 256
START = (b"", b"")
"""Score and ID before the first entry of an index."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a tool is asked about. An empty part matches every task.

    Attributes:
        queues: globs of the queues' names.
        types: globs of the types.
        states: names of states.
    """

    queues: tuple[Glob, ...] = ()
    types: tuple[Glob, ...] = ()
    states: tuple[str, ...] = ()

    def matches_queue(self, name: str) -> bool:
        """Say whether tasks of a queue may match."""
        return not self.queues or any(glob.matches(name) for glob in self.queues)

    def matches(self, task: Task) -> bool:
        """Say whether state and type of a task match. Its queue is not asked for: see `matches_queue`."""
        if self.states and task.state not in self.states:
            return False
        return not self.types or any(glob.matches(task.type) for glob in self.types)


def scan(database: Database, cursor: int, pattern: bytes) -> tuple[int, list[bytes]]:
    """Return the next cursor (0 at the end) and the keys of one step through the keyspace."""
    database.pace.spend(_SCAN_COUNT)
    answer: Any = database.client.scan(cursor, match=pattern, count=_SCAN_COUNT)
    return int(answer[0]), list(answer[1])


def task_pages(database: Database, want: str = "head", cursor: int = 0) -> Iterator[tuple[int, list[Task]]]:
    """Yield every task of the database in pages, each with the cursor of the next one (0 at the end).

    Args:
        database: where.
        want: `head` for messages without payload, `digest` for digests as well, `whole` for payloads and results.
        cursor: the cursor of the first page.
    """
    while True:
        cursor, keys = scan(database, cursor, TASK_PATTERN)
        yield cursor, [task for task in tasks_of(database, keys, want) if task.exists]
        if cursor == 0:
            return


def tasks_of(database: Database, keys: list[bytes], want: str) -> Iterator[Task]:
    """Yield the tasks of some keys, queue by queue; a key that is not that of a task is passed over.

    Args:
        database: where.
        keys: the keys.
        want: see `task_pages`.
    """
    by_queue: dict[str, list[bytes]] = {}
    for key in keys:
        queue = queue_of_task(key)
        if queue is not None:
            by_queue.setdefault(queue, []).append(key[len(task_prefix(queue)) :])
    for queue, ids in by_queue.items():
        yield from read_tasks(database, queue, ids, want)


def read_tasks(database: Database, queue: str, ids: list[bytes], want: str) -> Iterator[Task]:
    """Yield the tasks of a queue that have these IDs, in their order, also those that do not exist.

    Args:
        database: where.
        queue: the queue's name.
        ids: the IDs.
        want: see `task_pages`.
    """
    first = 0
    while first < len(ids):
        page = ids[first : first + PAGE_TASKS]
        rows = database.run("shared/read_tasks", task_prefix(queue), queue_prefix(queue), PAGE_BYTES, want, *page)
        for task_id, row in zip(page, rows, strict=False):
            yield task_of_row(queue, task_id, row)
        first += len(rows)


def index_pages(
    database: Database, queue: str, state: str, want: str = "head", after: tuple[bytes, bytes] = START
) -> Iterator[list[Entry]]:
    """Yield the entries of an index in pages, lowest scores first.

    Args:
        database: where.
        queue: the queue's name.
        state: the state whose index it is.
        want: see `task_pages`.
        after: score and ID of the entry after which to begin.
    """
    prefix, key = queue_prefix(queue), index_key(queue, state)
    while True:
        database.pace.spend(PAGE_TASKS)
        found = database.run("existing_keys/read_index", key, prefix, PAGE_BYTES, want, PAGE_TASKS, *after)
        entries = [
            Entry(score, task_of_row(queue, task_id, row))
            for task_id, score, row in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        if not entries:
            return
        last = after
        after = (entries[-1].score, entries[-1].task.id)
        # Where the last entry was removed meanwhile, the script returns all entries of its score once more.
        yield [entry for entry in entries if entry.score != last[0] or entry.task.id > last[1]]
