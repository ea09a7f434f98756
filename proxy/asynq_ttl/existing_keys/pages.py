"""Reads the tasks of a database page by page: through the keyspace, or through one index.

Invariants:

* Nothing is changed, and nothing large is read at once; see `database`.
* A page is one script execution, so state, score, TTL and message of a task are of one moment. Only a message that is
  too long for a script is read after it, with the state of that moment, and when it is its turn: never two at a time.
* Pages of many queues are read in one round trip, which has about as much in it as a page of one.
* A walk through the keyspace promises what SCAN does: a key that exists all the time is seen, once or more often.
* A walk through an index misses no entry that is there all the time, and yields none twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from asynq_ttl.asynq.keys import PREFIX, TASK_PATTERN, doubtful, queue_of_task, queue_prefix, task_prefix, text_of
from asynq_ttl.asynq.task import Entry, Task, record_of, task_of_row
from asynq_ttl.existing_keys.database import PAGE_BYTES, PAGE_TASKS, Cursor, Database
from asynq_ttl.existing_keys.queue_places import Place
from asynq_ttl.existing_keys.script_runs import Call
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.rules import SCHEDULER_HISTORY

_SCAN_COUNT = 256
# The longest message that `lua/shared/task.prologue` reads, and the longest where only short ones are wanted.
_LONGEST, _LONGEST_SHORT = 4 << 20, 64 << 10
# So many bytes of a long message cost as much as a key of usual size.
_BYTES_A_KEY = 16 << 10
START = (b"", b"")
"""Score and ID before the first entry of an index."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks a tool is asked about. An empty part matches every task.

    Attributes:
        queues: globs of the queues' names.
        types: globs of the types.
        states: names of states; also `SCHEDULER_HISTORY`, which no task is in.
    """

    queues: tuple[Glob, ...] = ()
    types: tuple[Glob, ...] = ()
    states: tuple[str, ...] = ()

    def matches_queue(self, name: str) -> bool:
        """Say whether tasks of a queue may match."""
        return not self.queues or any(glob.matches(name) for glob in self.queues)

    @property
    def matches_tasks(self) -> bool:
        """Whether any task may match."""
        return self.states != (SCHEDULER_HISTORY,)

    @property
    def matches_histories(self) -> bool:
        """Whether the histories of scheduler entries match: they have no queue and no type."""
        return not self.queues and not self.types and (not self.states or SCHEDULER_HISTORY in self.states)

    def matches(self, task: Task) -> bool:
        """Say whether state and type of a task match. Its queue is not asked for: see `matches_queue`."""
        if self.states and task.state not in self.states:
            return False
        return not self.types or any(glob.matches(task.type) for glob in self.types)


def scan(database: Database, cursor: Cursor, pattern: bytes) -> tuple[Cursor, list[bytes]]:
    """Return the next cursor (0 at the end) and the keys of one step through the keyspace."""
    database.pace.spend(_SCAN_COUNT)
    return database.scan(cursor, match=pattern, count=_SCAN_COUNT)


def task_pages(database: Database, want: str = "head", cursor: Cursor = 0) -> Iterator[tuple[Cursor, list[Task]]]:
    """Yield every task of the database in pages, each with the cursor of the next one (0 at the end).

    Args:
        database: where.
        want: `head` for messages without payload, `digest` for digests as well.
        cursor: the cursor of the first page.
    """
    while True:
        cursor, keys = scan(database, cursor, TASK_PATTERN)
        yield cursor, [task for task in tasks_of(database, keys, want) if task.exists]
        if cursor == 0:
            return


def whole_tasks(database: Database, advance: Callable[[int], None]) -> Iterator[Task]:
    """Yield every task of the database with its payload and result, one at a time, however long they are.

    Args:
        database: where.
        advance: is called with the number of tasks of each step through the keyspace.
    """
    cursor: Cursor = 0
    while True:
        cursor, keys = scan(database, cursor, TASK_PATTERN)
        yield from (task for task in tasks_of(database, keys, "short") if task.exists)
        advance(len(keys))
        if cursor == 0:
            return


def tasks_of(database: Database, keys: list[bytes], want: str) -> Iterator[Task]:
    """Yield the tasks of some keys, queue by queue; a key that is not that of a task is passed over.

    So is one that can be read as another queue's too, unless the task is in an index of its queue.

    Args:
        database: where.
        keys: the keys.
        want: see `task_pages`; `short` for payloads and results as well.
    """
    by_queue: dict[str, list[bytes]] = {}
    for key in keys:
        queue = queue_of_task(key)
        if queue is not None:
            by_queue.setdefault(queue, []).append(key[len(task_prefix(queue)) :])
        elif key.startswith(PREFIX):
            database.left_out.add_ambiguous(text_of(key))
    for task in read_tasks(database, list(by_queue.items()), want):
        key = task_prefix(task.queue) + task.id
        if task.exists and doubtful(key) and task.score is None:
            database.left_out.add_ambiguous(text_of(key))
        else:
            yield task


def read_tasks(database: Database, wanted: Sequence[tuple[str, list[bytes]]], want: str) -> Iterator[Task]:
    """Yield the tasks of queues that have these IDs, in no particular order, also those that do not exist.

    Args:
        database: where.
        wanted: queues and IDs.
        want: see `tasks_of`.
    """
    waiting = [
        (queue, ids[first : first + PAGE_TASKS]) for queue, ids in wanted for first in range(0, len(ids), PAGE_TASKS)
    ]
    while waiting:
        size = _first_of([len(ids) for _, ids in waiting])
        page, waiting = waiting[:size], waiting[size:]
        budget = PAGE_BYTES // len(page)
        calls: list[Call] = [(task_prefix(queue), queue_prefix(queue), budget, want, *ids) for queue, ids in page]
        rest = []
        for (queue, ids), rows in zip(page, database.run_all("shared/read_tasks", calls), strict=True):
            for task_id, row in zip(ids, rows, strict=False):
                yield _completed(database, task_of_row(queue, task_id, row), want)
            if len(rows) < len(ids):
                rest.append((queue, ids[len(rows) :]))
        waiting = rest + waiting


def _first_of(lengths: Sequence[int]) -> int:
    """Return how many pages of these lengths go into one round trip: at least one."""
    total = 0
    for number, length in enumerate(lengths):
        total += length
        if number and (total > PAGE_TASKS or number >= PAGE_TASKS):
            return number
    return len(lengths)


def _completed(database: Database, task: Task, want: str) -> Task:
    """Take down what was met while a task was read, and read a message that was too long for the script."""
    for key in task.wrong:
        database.left_out.add_wrong(key)
    limit = _LONGEST_SHORT if want == "short" else _LONGEST
    long_result = want == "short" and isinstance(task.result, int) and task.result > limit
    if not task.exists or (task.size <= limit and not long_result):
        return task
    database.pace.spend(1 + task.size // _BYTES_A_KEY)
    key = task_prefix(task.queue) + task.id
    fields = ["state", "msg", *(["result"] if want == "short" else [])]
    answer = database.ask(key, "HMGET", *fields)
    state, message, *result = answer or [None, None]
    if message is None:
        return replace(task, exists=False, ttl_ms=-2)
    record = record_of(message)
    if record is not None and want != "short":
        record = record._replace(payload=b"")
    task = replace(task, state=text_of(state or b""), record=record, size=len(message))
    return replace(task, result=result[0] or b"") if result else task


@dataclass(frozen=True, slots=True)
class IndexPage:
    """A page of an index.

    Attributes:
        place: the index.
        after: score and ID of the entry before the page.
        entries: the entries.
    """

    place: Place
    after: tuple[bytes, bytes]
    entries: list[Entry]


def index_rounds(
    database: Database, places: Sequence[Place], want: str = "head", after: tuple[bytes, bytes] = START
) -> Iterator[list[IndexPage]]:
    """Yield the entries of indexes in rounds, one round trip each: of some indexes their next page, in their order.

    An index gets pages until one is empty; only then is a later index begun that is not in the same round.

    Args:
        database: where.
        places: the indexes.
        want: see `task_pages`.
        after: score and ID of the entry of the first index after which to begin.
    """
    first = 0
    while first < len(places):
        size = _first_of([min(place.length, PAGE_TASKS) for place in places[first : first + PAGE_TASKS]])
        running = [(place, START) for place in places[first : first + size]]
        if first == 0:
            running[0] = (running[0][0], after)
        while running:
            pages = _index_round(database, running, want)
            # Where the last entry was removed meanwhile, the script returns all entries of its score once more.
            yield [
                replace(page, entries=[entry for entry in page.entries if _follows(entry, page.after)])
                for page in pages
            ]
            running = [
                (page.place, (page.entries[-1].score, page.entries[-1].task.id)) for page in pages if page.entries
            ]
        first += size


def index_pages(database: Database, place: Place, want: str = "head") -> Iterator[list[Entry]]:
    """Yield the entries of one index in pages, lowest scores first; see `index_rounds`."""
    for (page,) in index_rounds(database, [place], want):
        if page.entries:
            yield page.entries


def _index_round(
    database: Database, running: Sequence[tuple[Place, tuple[bytes, bytes]]], want: str
) -> list[IndexPage]:
    """Read the next page of some indexes."""
    budget = PAGE_BYTES // len(running)
    calls = [(place.key, queue_prefix(place.queue), budget, want, PAGE_TASKS, *after) for place, after in running]
    pages = []
    for (place, after), found in zip(running, database.run_all("existing_keys/read_index", calls), strict=True):
        entries = [
            Entry(score, _completed(database, task_of_row(place.queue, task_id, row), want))
            for task_id, score, row in zip(found[::3], found[1::3], found[2::3], strict=True)
        ]
        pages.append(IndexPage(place, after, entries))
    database.pace.spend(sum(1 + len(page.entries) for page in pages))
    return pages


def _follows(entry: Entry, after: tuple[bytes, bytes]) -> bool:
    return entry.score != after[0] or entry.task.id > after[1]
