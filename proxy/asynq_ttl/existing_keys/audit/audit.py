"""Walks through a database and counts what is there and what is wrong with it. Changes nothing.

First every list and index, for entries without their task; then the keyspace, for tasks and what they lack.

Invariants:

* Memory is bounded by the number of IDs that wait in lists (8 bytes each, 50 while they are sorted), never by that of
  the task keys.
* Whether an entry has its task, and whether a task in a sorted set has its entry, is seen in one script execution.
  Lists cannot be searched so: a task that is not where it should be is looked for again before it counts as lost.
* A walk through the keyspace can go on where it stopped: `Checkpoint`.
"""

import json
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from asynq_ttl.asynq.keys import PREFIX, queue_of_task, queue_prefix, text_of
from asynq_ttl.asynq.message import scheduler_entry_id
from asynq_ttl.asynq.task import Task, ended_at, seconds_of
from asynq_ttl.existing_keys.audit.counts import NEVER, Group, Tally, load_tally
from asynq_ttl.existing_keys.audit.forecast import ARRIVAL_DAYS, HORIZON_DAYS
from asynq_ttl.existing_keys.audit.problems import AILMENTS, finding
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding
from asynq_ttl.existing_keys.pages import Filter, read_tasks, scan, tasks_of
from asynq_ttl.policy.plan import Act, Plan, Standing, plan
from asynq_ttl.policy.rules import OWN_ARCHIVE_CAP, OWN_ARCHIVE_SECONDS, Policy, State

_DAY = 86_400
_LIST_PAGE = 200
_SAVE_SECONDS = 2.0
# Suspects are looked for again when there are so many, and so often before they count as lost.
_MOST_SUSPECTS = 20_000
_LOOKS = 3
_TERMINAL = {state.value: state for state in State}
_LIVE = ("pending", "active", "scheduled", "retry", "aggregating")
_HISTORY = b"asynq:scheduler_history:"
# Lists and indexes whose memory counts as a queue's own.
_PARTS = ("pending", "active", "scheduled", "retry", "archived", "completed", "lease", "deadlines")


# IDs of tasks that were not where their state says, by queue and state.
Suspects = dict[tuple[str, str], list[bytes]]


class Checkpoint:
    """A file from which an audit that was interrupted goes on.

    Args:
        path: the file; None for none.
        run: what audit it is; a file of another one is not used.
    """

    def __init__(self, path: Path | None, run: dict[str, Any]) -> None:
        self._path = path
        self._run = run
        self._saved = time.monotonic()

    def load(self) -> tuple[int, Tally, int, Suspects] | None:
        """Return cursor, tally, time of the first start and suspects of an interrupted audit; None without one."""
        if self._path is None or not self._path.exists():
            return None
        try:
            content = json.loads(self._path.read_text())
            if content["run"] != self._run:
                return None
            suspects = {
                (queue, state): [name.encode("utf-8", "surrogateescape") for name in ids]
                for queue, state, ids in content["suspects"]
            }
            return content["cursor"], load_tally(content["tally"]), content["now"], suspects
        except (ValueError, KeyError, TypeError):
            return None

    def save(self, cursor: int, tally: Tally, now: int, suspects: Suspects) -> None:
        """Save where the walk stands, every few seconds."""
        if self._path is None or time.monotonic() - self._saved < _SAVE_SECONDS:
            return
        fresh = self._path.with_name(self._path.name + ".new")
        content = {
            "run": self._run,
            "cursor": cursor,
            "now": now,
            "tally": tally.dump(),
            "suspects": [[*key, [text_of(task_id) for task_id in ids]] for key, ids in suspects.items()],
        }
        fresh.write_text(json.dumps(content))
        fresh.replace(self._path)
        self._saved = time.monotonic()

    def done(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """The IDs that a list held, as sorted 64-bit hashes."""

    hashes: "array[int]"

    def has(self, task_id: bytes) -> bool:
        wanted = _hash(task_id)
        place = bisect_left(self.hashes, wanted)
        return place < len(self.hashes) and self.hashes[place] == wanted


class Audit:
    """One audit.

    Args:
        database: where.
        policy: what the forecast supposes.
        wanted: which queues are concerned.
        checkpoint: where the walk is saved.
        advance: is told how many entries and keys have been looked at.
    """

    def __init__(
        self,
        database: Database,
        policy: Policy,
        wanted: Filter,
        checkpoint: Checkpoint,
        *,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._policy = policy
        self._filter = wanted
        self._checkpoint = checkpoint
        self._advance = advance
        self._snapshots: dict[tuple[str, str], _Snapshot] = {}
        self._suspects: Suspects = {}
        self._queues: set[str] = set()
        self._entry_ids: set[bytes] = set()
        self.now = 0
        self.tally = Tally()

    def run(self, queues: list[str]) -> list[Finding]:
        """Walk, and return the findings, the worst first.

        Args:
            queues: those that Asynq lists.
        """
        self._queues = set(queues)
        chosen = [queue for queue in queues if self._filter.queue(queue)]
        saved = self._checkpoint.load()
        cursor = 0
        if saved is not None:
            cursor, self.tally, self.now, self._suspects = saved
        else:
            self.now = self._database.now()
        # Where the walk goes on, lists are read only to know what is in them.
        for queue in chosen:
            self._look_at_lists(queue, count=saved is None)
            if saved is None:
                self._look_at_indexes(queue)
        self._keyspace(cursor)
        self._resolve()
        for queue in chosen:
            self._measure_indexes(queue)
        self._checkpoint.done()
        return self._findings()

    def _look_at_lists(self, queue: str, *, count: bool) -> None:
        """Note what is in `pending` and `active`, and count the IDs there that have no task."""
        for name, code in (("pending", "waiting-gone"), ("active", "active-gone")):
            hashes = array("Q")
            for ids, gone in self._list_pages(queue, name):
                hashes.extend(map(_hash, ids))
                for task_id in gone if count else ():
                    self.tally.ail(code, f"{queue}: {text_of(task_id)} in {name}")
                if count:
                    self._advance(len(ids))
            self._snapshots[queue, name] = _Snapshot(array("Q", sorted(hashes)))

    def _list_pages(self, queue: str, name: str) -> Iterator[tuple[list[bytes], list[bytes]]]:
        first, prefix = 0, queue_prefix(queue)
        while True:
            self._database.pace.spend(_LIST_PAGE)
            ids, gone = self._database.run(
                "existing_keys/check_list", prefix + name.encode(), prefix, first, _LIST_PAGE
            )
            yield ids, gone
            if len(ids) < _LIST_PAGE:
                return
            first += len(ids)

    def _look_at_indexes(self, queue: str) -> None:
        """Count the entries of the sorted sets that have no task in their state."""
        for name, state in (*((name, name) for name in ("archived", "completed", "scheduled", "retry")), *_LEASES):
            entries = 0
            for looked_at, wrong in self._index_pages(queue, name, state):
                entries += looked_at
                self._advance(looked_at)
                for task_id, found in wrong:
                    example = f"{queue}: {text_of(task_id)} in {name}, the task is {found or 'gone'}"
                    self.tally.ail(_entry_ailment(state, found), example)
            if name == "archived" and entries >= OWN_ARCHIVE_CAP:
                self.tally.ail("at-cap", f"{queue}: {entries:,}")

    def _index_pages(self, queue: str, name: str, state: str) -> Iterator[tuple[int, list[tuple[bytes, str]]]]:
        prefix = queue_prefix(queue)
        key = prefix + name.encode()
        score, task_id = b"", b""
        while True:
            self._database.pace.spend(_LIST_PAGE)
            count, score, task_id, *wrong = self._database.run(
                "existing_keys/check_index", key, prefix, state, _LIST_PAGE, score, task_id
            )
            yield count, list(zip(wrong[::2], map(text_of, wrong[1::2]), strict=True))
            if count < _LIST_PAGE:
                return

    def _keyspace(self, cursor: int) -> None:
        """Walk through all keys of Asynq."""
        self._entry_ids = self._scheduler_entries()
        while True:
            cursor, keys = scan(self._database, cursor, b"asynq:*")
            tasks = [key for key in keys if queue_of_task(key) is not None]
            self.tally.keys += len(keys)
            self.tally.other_keys += len(keys) - len(tasks)
            self._look_at_tasks(tasks)
            for key in keys:
                self._look_at_key(key)
            self._advance(len(keys))
            if sum(map(len, self._suspects.values())) > _MOST_SUSPECTS:
                self._resolve()
            if cursor == 0:
                return
            self._checkpoint.save(cursor, self.tally, self.now, self._suspects)

    def _look_at_tasks(self, keys: list[bytes]) -> None:
        """Count the tasks of some keys, and measure a sample of them."""
        wanted = [key for key in keys if self._filter.queue(queue_of_task(key) or "")]
        samples: list[tuple[Group, Task, int]] = []
        for task in tasks_of(self._database, wanted, "head"):
            if not task.exists:
                if task.ttl_ms == -1:
                    self.tally.ail("unreadable", f"{task.queue}: {text_of(task.id)} is no hash")
                continue
            group = self.tally.group(task.queue, task.state)
            content = task.size + (task.result if isinstance(task.result, int) else len(task.result))
            self._count(group, task, content)
            if group.wants_sample():
                samples.append((group, task, content))
        if samples:
            pipeline = self._database.client.pipeline(transaction=False)
            for _, task, _ in samples:
                pipeline.memory_usage(queue_prefix(task.queue) + b"t:" + task.id, samples=0)
            for (group, _, content), usage in zip(samples, pipeline.execute(), strict=True):
                if usage is not None:
                    group.measured(usage, content)

    def _count(self, group: Group, task: Task, content: int) -> None:
        group.tasks += 1
        group.content += content
        group.timed += task.ttl_ms >= 0
        group.locks += task.locked
        example = f"{task.queue}: {text_of(task.id)}"
        if task.size == 0:
            self.tally.ail("half", example)
            return
        if task.record is None:
            self.tally.ail("unreadable", example)
            return
        if task.state in _TERMINAL:
            self._count_terminal(group, task, content, example)
            return
        if task.pending_since:
            group.aged(max(self.now - task.pending_since, 0))
        elif task.state == "retry" and task.record.last_failed_at:
            group.aged(max(self.now - task.record.last_failed_at, 0))
        if task.state not in _LIVE:
            self.tally.ail("unreadable", f"{example} is in state {task.state!r}")
            return
        if task.ttl_ms >= 0:
            self.tally.ail("live-ttl", f"{example} is {task.state}, {task.ttl_ms // 1000} s left")
        if task.score is None and not self._listed(task):
            self._suspects.setdefault((task.queue, task.state), []).append(task.id)

    def _listed(self, task: Task) -> bool:
        snapshot = self._snapshots.get((task.queue, task.state))
        return snapshot is not None and snapshot.has(task.id)

    def _count_terminal(self, group: Group, task: Task, content: int, example: str) -> None:
        """Count a task that is archived or completed, and when it will leave."""
        record, state = task.record, _TERMINAL[task.state]
        if record is None:
            return
        if task.locked and state is State.ARCHIVED:
            self.tally.ail("archived-lock", example)
        if task.score is None:
            group.orphans += 1
            self.tally.ail("orphan", f"{example} is {task.state}")
        score = None if task.score is None else seconds_of(task.score)
        since = ended_at(task)
        standing = Standing(task.queue, task.id, task.type, state, since, score, record.retention, task.ttl_ms >= 0)
        if since > 0:
            group.aged(max(self.now - since, 0))
        planned = plan(self._policy, standing, self.now)
        if planned is not None and planned.act in (Act.TTL, Act.REMOVE):
            self.tally.ail("untimed", example)
        own, policy = self._ends(standing, task.ttl_ms, planned)
        group.own.add(_day(own, self.now), content)
        group.policy.add(_day(policy, self.now), content)
        if 0 <= self.now - since < ARRIVAL_DAYS * _DAY:
            group.own_lives.add(_day(own, since), content)
            group.policy_lives.add(_day(policy, since), content)

    def _ends(self, task: Standing, ttl_ms: int, planned: Plan | None) -> tuple[int | None, int | None]:
        """Return when a task leaves under Asynq alone and under the policy; None for never."""
        fires = self.now + ttl_ms // 1000 if task.timed else None
        own = None
        if task.score is not None:
            own = task.score if task.state is State.COMPLETED else task.score + OWN_ARCHIVE_SECONDS
        if fires is not None:
            own = fires if own is None else min(own, fires)
        if planned is None:
            return own, own
        if planned.act is Act.REMOVE:
            return own, self.now
        return own, planned.expires_at if planned.act is Act.TTL else None

    def _resolve(self) -> None:
        """Look again for tasks that were not where their state says, and count those that are nowhere as lost."""
        suspects, self._suspects = self._suspects, {}
        for (queue, state), ids in suspects.items():
            for _ in range(_LOOKS):
                if state in ("pending", "active"):
                    self._look_at_lists(queue, count=False)
                found = read_tasks(self._database, queue, ids, "head")
                ids = [  # noqa: PLW2901 - fewer at each look
                    task.id
                    for task in found
                    if task.state == state and task.score is None and task.size and not self._listed(task)
                ]
                if not ids:
                    break
                time.sleep(0.05)
            for task_id in ids:
                self.tally.group(queue, state).orphans += 1
                self.tally.ail("lost", f"{queue}: {text_of(task_id)} is {state}")

    def _look_at_key(self, key: bytes) -> None:
        """Take note of a key of a queue that Asynq does not list, or of a scheduler entry that is gone."""
        if key.startswith(_HISTORY):
            if key.removeprefix(_HISTORY) not in self._entry_ids:
                self.tally.ail("scheduler-history", text_of(key))
        elif key.startswith(PREFIX):
            queue = text_of(key[len(PREFIX) : key.find(b"}:")])
            if queue not in self._queues and self._filter.queue(queue):
                self._queues.add(queue)
                self.tally.ail("unlisted", queue)

    def _scheduler_entries(self) -> set[bytes]:
        """Return the IDs of the entries that running schedulers have."""
        client = self._database.client
        keys: Any = client.zrange("asynq:schedulers", 0, 999)
        entries: list[Any] = [entry for key in keys for entry in client.lrange(key, 0, 999)]
        return {scheduler_entry_id(entry) for entry in entries}

    def _measure_indexes(self, queue: str) -> None:
        prefix = queue_prefix(queue)
        sizes = (self._database.client.memory_usage(prefix + part.encode(), samples=5) for part in _PARTS)
        self.tally.indexes[queue] = sum(size or 0 for size in sizes)

    def _findings(self) -> list[Finding]:
        tally = self.tally
        found = [
            finding(code, tally.ailments[code], tally.examples[code]) for code in AILMENTS if code in tally.ailments
        ]
        return sorted(found, key=lambda item: -item.severity)


_LEASES = (("lease", "active"), ("deadlines", "active"))


def _entry_ailment(state: str, found: str) -> str:
    if state in _TERMINAL:
        return "ghost-live" if found in _LIVE else "ghost"
    return "active-gone" if state == "active" else "waiting-gone"


def _hash(task_id: bytes) -> int:
    return int.from_bytes(blake2b(task_id, digest_size=8).digest(), "big")


def _day(when: int | None, start: int) -> int:
    """Return a time as whole days from another one, rounded up."""
    if when is None:
        return NEVER
    return min(max(-(-(when - start) // _DAY), 0), HORIZON_DAYS + 1)
