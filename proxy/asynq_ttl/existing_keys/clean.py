"""Deletes ended tasks that match a filter: by state, queue, type, error and age.

Walks through the terminal indexes, oldest entries first. What is in no index `backfill --orphans` deletes.

Invariants:

* Only what ended, matches, and is not held is deleted, and only if it is still what it was when that was read.
* With a file, the line of a task is on the disk before the task is deleted, and tells of the message that is deleted.
* A message that cannot be read has no type and no error: no glob of one matches it.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from asynq_ttl.asynq.keys import task_prefix
from asynq_ttl.asynq.task import Task, ended_at
from asynq_ttl.asynq.task_json import raw_line, task_line
from asynq_ttl.existing_keys.changes import Change, Changer, change_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.index_position import position_of, rest_of
from asynq_ttl.existing_keys.pages import IndexPage, TaskFilter, index_rounds, read_tasks
from asynq_ttl.existing_keys.queue_places import Place, queue_places
from asynq_ttl.existing_keys.task_file import TaskFile
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.plan import Act, Plan
from asynq_ttl.times import moment

# Longer messages have their length as digest, as in `lua/shared/task.prologue`.
_LONGEST_HASHED = 128 << 10


@dataclass(frozen=True, slots=True)
class CleanFilter:
    """Which ended tasks are deleted.

    Attributes:
        tasks: by queue, type and state; at least one state is named.
        errors: globs of the errors with which they failed last; empty for any.
        older_than: for how many seconds they have ended at least; None for any time.
    """

    tasks: TaskFilter
    errors: tuple[Glob, ...] = ()
    older_than: int | None = None

    @property
    def by_content(self) -> bool:
        """Whether it asks for what only a message tells."""
        return bool(self.tasks.types or self.errors)

    def matches(self, task: Task, now: int) -> bool:
        """Say whether a task matches, whose queue does.

        Args:
            task: the task.
            now: Redis's time in Unix seconds.
        """
        if not self.tasks.matches(task) or (task.record is None and self.by_content):
            return False
        if self.errors and not any(glob.matches(task.record.error if task.record else "") for glob in self.errors):
            return False
        return self.older_than is None or 0 < ended_at(task) <= now - self.older_than


class Clean:
    """One run.

    Args:
        database: where.
        wanted: which tasks are deleted.
        changer: deletes them, or only shows them.
        now: Redis's time at the first start of the run, in Unix seconds.
        file: what each task is written to before it is deleted; None for nothing.
        advance: is called with the number of entries of each page.
    """

    def __init__(
        self,
        database: Database,
        wanted: CleanFilter,
        changer: Changer,
        *,
        now: int,
        file: TaskFile | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._wanted = wanted
        self._changer = changer
        self._now = now
        self._file = file
        self._advance = advance
        self.seen: Counter[str] = Counter()
        """What was met: `tasks` in the indexes, and those that match and are `held`; `ghosts`."""

    def indexes(self, queues: Sequence[str]) -> list[Place]:
        """Return the indexes that are walked through, in that order.

        Args:
            queues: all there are.
        """
        chosen = [queue for queue in queues if self._wanted.tasks.matches_queue(queue)]
        return list(queue_places(self._database, chosen, sorted(self._wanted.tasks.states)))

    def run(self, indexes: Sequence[Place], position: Sequence[str | int] = ()) -> None:
        """Walk through the indexes.

        Args:
            indexes: what `indexes` returned.
            position: what `Changer.resume` returned; nothing for a new run.
        """
        rest, after = rest_of(indexes, position)
        for pages in index_rounds(self._database, rest, "digest", after):
            found = [task for page in pages for task in self._matching(page)]
            changes = list(map(_removal, found if self._file is None else self._written(found, self._file)))
            self._changer.make(changes, position_of(pages[0]))
            self._advance(sum(len(page.entries) for page in pages))

    def _matching(self, page: IndexPage) -> Iterator[Task]:
        """Yield the tasks of a page that are to be deleted."""
        for entry in page.entries:
            task = entry.task
            if not task.exists or task.state != page.place.name or task.size == 0:
                self.seen["ghosts"] += 1
                continue
            self.seen["tasks"] += 1
            if task.record is None and self._wanted.by_content:
                self._database.left_out.add_unreadable()
            elif self._wanted.matches(task, self._now):
                if task.hold is None:
                    yield task
                else:
                    self.seen["held"] += 1

    def _written(self, found: Sequence[Task], file: TaskFile) -> list[Task]:
        """Read tasks whole and write them down; return them once all are on the disk, queue by queue."""
        by_queue: dict[str, list[bytes]] = {}
        for task in found:
            by_queue.setdefault(task.queue, []).append(task.id)
        states = {(task.queue, task.id): task.state for task in found}
        written = []
        for task in read_tasks(self._database, list(by_queue.items()), "short"):
            if task.hold is not None or task.state != states[task.queue, task.id]:
                continue
            if task.record is not None:
                file.write(task_line(task, task.record, text=False))
            # The message that is written down is the one that may be deleted.
            written.append(task if task.record is not None else self._write_raw(task, file))
        file.sync()
        order = list(by_queue)
        return sorted(written, key=lambda task: order.index(task.queue))

    def _write_raw(self, task: Task, file: TaskFile) -> Task:
        """Write down a task whose message cannot be read; return it with the digest of what was written."""
        answer: Any = self._database.ask(task_prefix(task.queue) + task.id, "HGET", "msg")
        message: bytes = answer or b""
        file.write(raw_line(task, message))
        return replace(task, digest=_digest(message))


def _digest(message: bytes) -> bytes:
    """Return the digest of a message, as `lua/shared/task.prologue` has it."""
    if not message:
        return b"none"
    if len(message) > _LONGEST_HASHED:
        return b"size %d" % len(message)
    return hashlib.sha1(message, usedforsecurity=False).hexdigest().encode()


def _removal(task: Task) -> Change:
    """Return the change that deletes a task with its entry and its uniqueness lock."""
    ended = moment(ended_at(task))
    reason = f"{task.state} at {ended}" if ended else task.state
    return change_of(task, Plan(Act.REMOVE, "", reason), index=task.state, timed="any")
