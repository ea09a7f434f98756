"""Reads a sample of the tasks to learn which queues and types there are, and how long their locks and retries take."""

from dataclasses import dataclass, field

from asynq_ttl.asynq.task import Task, seconds_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import task_pages
from asynq_ttl.policy.rules import State

# Asking for the end of a lock is a command of its own; so many locks tell enough.
_MOST_LOCKS = 200

Kind = tuple[str, str]
"""Queue and type of a task."""


@dataclass(slots=True)
class Sample:
    """What a sample of tasks tells.

    Attributes:
        tasks: how many were read; one whose message cannot be read does not count.
        whole: whether those are all tasks there are.
        kinds: their queues and types.
        locks: the longest time until a uniqueness lock ends of a task that is not completed, in seconds.
        waits: the longest time until a retry, in seconds.
        asked: how many locks were asked for their end.
    """

    tasks: int = 0
    whole: bool = True
    kinds: set[Kind] = field(default_factory=set)
    locks: dict[Kind, int] = field(default_factory=dict)
    waits: dict[Kind, int] = field(default_factory=dict)
    asked: int = 0

    def add_task(self) -> None:
        """Count a task that was read."""
        self.tasks += 1

    def add_lock(self, kind: Kind, seconds: int) -> None:
        """Take note of a lock and of when it ends."""
        self.asked += 1
        self.locks[kind] = max(self.locks.get(kind, 0), seconds)

    def cut_short(self) -> None:
        """Take note that there are more tasks than were read."""
        self.whole = False


def take_sample(database: Database, most: int) -> Sample:
    """Read tasks, page by page, until there are so many; the last page is read whole."""
    sample = Sample()
    now = database.now()
    for cursor, page in task_pages(database):
        for task in page:
            _add(database, sample, task, now)
        if sample.tasks >= most and cursor:
            sample.cut_short()
            break
    return sample


def _add(database: Database, sample: Sample, task: Task, now: int) -> None:
    if task.record is None:
        return
    sample.add_task()
    kind = (task.queue, task.type)
    sample.kinds.add(kind)
    if task.locked and task.state != State.COMPLETED.value and sample.asked < _MOST_LOCKS:
        seconds = int(database.ask(task.record.unique_key, "PTTL") or 0) // 1000
        sample.add_lock(kind, seconds)
    if task.state == "retry" and task.score is not None:
        sample.waits[kind] = max(sample.waits.get(kind, 0), seconds_of(task.score) - now)
