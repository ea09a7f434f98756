"""Walks through a database, counts what is there, and says what is wrong with it. Changes nothing.

First every list and sorted set, for IDs without their task; then the keyspace, for tasks and what is wrong with them.

Invariants:

* Memory is bounded by the number of IDs in lists (see `indexes`), never by that of the task keys.
* Whether a task in a sorted set has its entry is read in one script execution. Lists cannot be searched so: a task that
  is in none is read again, several times, before it counts as lost, since it may have been on its way.
* A walk through the keyspace can go on where it was interrupted: `checkpoint`.
"""

import time
from collections.abc import Callable
from typing import Any

from redis.exceptions import ResponseError

from asynq_ttl.asynq.key_types import type_at
from asynq_ttl.asynq.keys import (
    entry_of_history,
    history_key,
    index_key,
    queue_of_key,
    queue_of_task,
    task_prefix,
    text_of,
)
from asynq_ttl.asynq.message import scheduler_entry_id
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.audit.checkpoint import Checkpoint, Progress, Suspects
from asynq_ttl.existing_keys.audit.counts import Tally
from asynq_ttl.existing_keys.audit.indexes import LISTS, Indexes
from asynq_ttl.existing_keys.audit.problems import PROBLEMS, finding_of
from asynq_ttl.existing_keys.audit.tasks import TaskCounter, content_bytes, must_be_listed
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding
from asynq_ttl.existing_keys.pages import TaskFilter, read_tasks, scan, tasks_of
from asynq_ttl.existing_keys.queue_places import queue_places
from asynq_ttl.existing_keys.scheduler_histories import histories_of
from asynq_ttl.policy.plan import plan_history
from asynq_ttl.policy.rules import Policy

# Suspects are read again when there are so many, and so often before they count as lost.
_MOST_SUSPECTS = 20_000
_READ_AGAIN = 3
_MOVED_SECONDS = 0.05
_MOST_SCHEDULED = 999


class Audit:
    """One audit.

    Args:
        database: where.
        policy: the policy that the forecast supposes.
        wanted: which queues are concerned.
        checkpoint: where the walk is saved.
        advance: is called with the number of entries or keys of each page.
        also: is called with each task, and with when the audit began.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        wanted: TaskFilter,
        checkpoint: Checkpoint,
        *,
        advance: Callable[[int], None] = lambda _: None,
        also: Callable[[Task, int], None] = lambda _task, _now: None,
    ) -> None:
        self._database = database
        self._policy = policy
        self._wanted = wanted
        self._checkpoint = checkpoint
        self._advance = advance
        self._also = also
        self._progress = Progress(now=0)
        self._indexes = Indexes(database, advance)
        self._queues: set[str] = set()
        self._scheduled: set[bytes] | None = None

    @property
    def now(self) -> int:
        """When the audit was started first, in Unix seconds by Redis's clock; 0 before `run`."""
        return self._progress.now

    @property
    def tally(self) -> Tally:
        """What has been counted."""
        return self._progress.tally

    def run(self, queues: list[str]) -> list[Finding]:
        """Walk, and return the findings, the worst first.

        Args:
            queues: those that Asynq lists.
        """
        self._queues = set(queues)
        chosen = [queue for queue in queues if self._wanted.matches_queue(queue)]
        saved = self._checkpoint.load(self._database.holds)
        self._progress = saved or Progress(self._database.now())
        places = list(queue_places(self._database, chosen))
        if saved is None:
            self._indexes.read_lists(places, self.tally)
            self._indexes.check_sorted_sets(places, self.tally)
        else:
            # They were checked before the interruption: it only has to be known what is in the lists.
            self._indexes.read_lists(places)
        self._walk()
        self._find_lost()
        self.tally.measure_indexes(chosen, self._indexes.bytes_of(places))
        if not self._database.left_out.elsewhere:
            self._checkpoint.done()
        return self._findings()

    def _walk(self) -> None:
        """Walk through all keys of Asynq."""
        progress = self._progress
        self._scheduled = self._scheduler_entries()
        counter = TaskCounter(self.tally, self._policy, self.now)
        while True:
            if self._database.begins_part(progress.cursor):
                progress.begin_part()
            cursor, keys = scan(self._database, progress.cursor, b"asynq:*")
            progress.go_on(cursor)
            tasks = [key for key in keys if queue_of_task(key) is not None]
            self.tally.add_keys(len(keys), len(tasks))
            self._check_tasks(tasks, counter)
            self._check_types([key for key in keys if queue_of_task(key) is None])
            self._check_histories([key for key in keys if entry_of_history(key) is not None])
            for key in keys:
                self._check_key(key)
            self._advance(len(keys))
            if sum(map(len, progress.suspects.values())) > _MOST_SUSPECTS:
                self._find_lost()
            if progress.cursor == 0:
                return
            if not self._database.left_out.elsewhere:
                self._checkpoint.save(progress)

    def _check_tasks(self, keys: list[bytes], counter: TaskCounter) -> None:
        """Count the tasks of some keys, take down those that may be lost, and measure a sample of them."""
        wanted = [key for key in keys if self._wanted.matches_queue(queue_of_task(key) or "")]
        samples: list[Task] = []
        for task in tasks_of(self._database, wanted, "head"):
            if not task.exists:
                continue
            counter.count(task)
            self._also(task, self.now)
            if must_be_listed(task) and not self._listed(task):
                self._progress.suspects.setdefault((task.queue, task.state), []).append(task.id)
            if self.tally.group(task.queue, task.state).wants_sample():
                samples.append(task)
        if samples:
            self._measure(samples)

    def _measure(self, samples: list[Task]) -> None:
        keys = [task_prefix(task.queue) + task.id for task in samples]
        for task, usage in zip(samples, self._database.memory_usage(keys, samples=0), strict=True):
            if usage is not None:
                self.tally.group(task.queue, task.state).add_sample(usage, content_bytes(task))

    def _find_lost(self) -> None:
        """Read suspects again, and count as lost those that are still in no list and no sorted set."""
        suspects = self._progress.take_suspects()
        for _ in range(_READ_AGAIN):
            suspects = self._still_suspect(suspects)
            if not suspects:
                return
            time.sleep(_MOVED_SECONDS)
        for (queue, state), ids in suspects.items():
            for task_id in ids:
                self.tally.group(queue, state).add_orphan()
                self.tally.add_problem("lost", f"{queue}: {text_of(task_id)} is {state}")

    def _still_suspect(self, suspects: Suspects) -> Suspects:
        """Return those suspects that, when they are read again, are still not where their state says."""
        queues = sorted({queue for queue, state in suspects if state in LISTS})
        self._indexes.read_lists(list(queue_places(self._database, queues, tuple(LISTS))))
        wanted: dict[str, list[bytes]] = {}
        for (queue, _), ids in suspects.items():
            wanted.setdefault(queue, []).extend(ids)
        left: Suspects = {}
        for task in read_tasks(self._database, list(wanted.items()), "head"):
            known = task.id in suspects.get((task.queue, task.state), ())
            if known and task.nowhere and task.size and not self._listed(task):
                left.setdefault((task.queue, task.state), []).append(task.id)
        return left

    def _listed(self, task: Task) -> bool:
        """Say whether a list holds a task, or may hold it: something else is in the place of the list."""
        broken = text_of(index_key(task.queue, task.state)) in self._database.left_out.wrong_names
        return broken or self._indexes.lists(task)

    def _check_types(self, keys: list[bytes]) -> None:
        """Take down which keys that are no tasks are of another type than Asynq has at their place."""
        known = [
            (key, kind)
            for key in keys
            if (kind := type_at(key)) and self._wanted.matches_queue(queue_of_key(key) or "")
        ]
        types = self._database.types_of([key for key, _ in known])
        for (key, kind), found in zip(known, types, strict=True):
            if found not in (kind, b"none"):
                self._database.left_out.add_wrong(key)

    def _check_histories(self, keys: list[bytes]) -> None:
        """Count histories of scheduler entries, and of those without a TTL which are to have one, or are left over."""
        for history in histories_of(self._database, keys):
            self.tally.add_history(timed=history.ttl_ms >= 0)
            if history.ttl_ms >= 0:
                continue
            key = text_of(history_key(history.entry_id))
            if plan_history(self._policy, history.entry_id, history.newest, self.now) is not None:
                self.tally.add_problem("untimed-history", key)
            elif self._scheduled is not None and history.entry_id not in self._scheduled:
                self.tally.add_problem("scheduler-history", key)

    def _check_key(self, key: bytes) -> None:
        """Count a queue that Asynq does not list, once."""
        queue = queue_of_key(key)
        if queue is not None and queue not in self._queues and self._wanted.matches_queue(queue):
            self._queues.add(queue)
            self.tally.add_problem("unlisted", queue)

    def _scheduler_entries(self) -> set[bytes] | None:
        """Return the IDs of the entries that running schedulers have; None where they cannot all be read."""
        key, entries = b"asynq:schedulers", list[Any]()
        try:
            keys = self._database.ask(key, "ZRANGE", 0, _MOST_SCHEDULED)
            if keys is None:
                return None
            for key in keys:
                found = self._database.ask(key, "LRANGE", 0, _MOST_SCHEDULED)
                if found is None:
                    return None
                entries += found
        except ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            self._database.left_out.add_wrong(key)
            return None
        return {scheduler_entry_id(entry) for entry in entries}

    def _findings(self) -> list[Finding]:
        left_out = self._database.left_out
        named = {
            "unread": left_out.unread,
            "moving": left_out.moving,
            "wrong-type": left_out.wrong,
            "ambiguous": left_out.ambiguous,
        }
        for code, names in named.items():
            for name in names:
                self.tally.add_problem(code, name)
        problems, examples = self.tally.problems, self.tally.examples
        found = [finding_of(code, problems[code], examples[code]) for code in PROBLEMS if code in problems]
        return sorted(found, key=lambda item: -item.severity)
