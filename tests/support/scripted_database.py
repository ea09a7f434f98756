"""A database for unit tests of the tools: no server, but tasks in memory and replies in the form of our Lua scripts.

It knows no more of Redis than the tools ask for. That the scripts reply so: `tests/integration/existing_keys/`.
"""

from bisect import insort
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from asynq_ttl.asynq.hold import HELD_SCORE, hold_of
from asynq_ttl.asynq.key_types import type_at
from asynq_ttl.asynq.keys import index_key, task_prefix
from asynq_ttl.asynq.message import decode_record
from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.database import Cursor, Database, checked
from asynq_ttl.existing_keys.refused import Refused
from asynq_ttl.net.address import parse_upstream
from support.task_message import encode_task

NOW = 1_700_000_000


def task_of(
    state: str,
    *,
    name: str = "a",
    queue: str = "q",
    score: int | None = None,
    ttl_ms: int = -1,
    locked: bool = False,
    pending_since: int = 0,
    held: bool = False,
    **message: Any,
) -> Task:
    """Return a task as it is read, with the message of type `x` unless `task_type` says otherwise.

    Args:
        state: its state.
        name: its ID.
        queue: its queue.
        score: its score; None where it is in no index.
        ttl_ms: milliseconds its key has to live.
        locked: whether it holds its uniqueness lock.
        pending_since: when it became pending, in Unix seconds.
        held: whether it is held; `score` and `ttl_ms` are then what it had before.
        message: more of its message, see `encode_task`.
    """
    message = {"task_type": "x", "queue": queue, **message}
    encoded = encode_task(**message)
    hold = None
    if held:
        expires = -1 if ttl_ms < 0 else NOW * 1000 + ttl_ms
        hold = hold_of(b"%d %d %d" % (score or 0, expires, NOW), b"%d" % HELD_SCORE)
        score, ttl_ms = HELD_SCORE, -1
    return Task(
        queue,
        name.encode("utf-8", "surrogateescape"),
        state,
        record=decode_record(encoded),
        size=len(encoded),
        ttl_ms=ttl_ms,
        score=None if score is None else str(score).encode(),
        locked=locked,
        digest=b"digest",
        pending_since=pending_since,
        hold=hold,
    )


class ScriptedDatabase(Database):
    """A database with some tasks.

    Args:
        tasks: the tasks; those with a score are in the index of their state.
        lists: the IDs in `pending` and `active`, by the key of the list.
        page: how many rows a script returns at most: the budget of bytes is spent then.
    """

    def __init__(
        self, tasks: Sequence[Task] = (), *, lists: dict[bytes, list[bytes]] | None = None, page: int = 50
    ) -> None:
        super().__init__(parse_upstream("redis://scripted:1/0"))
        self.client: Any = self
        self.tasks = {task_prefix(task.queue) + task.id: task for task in tasks}
        self.indexes: dict[bytes, list[tuple[int, bytes]]] = {}
        self.lists = lists or {}
        self.types: dict[bytes, bytes | Exception] = {}
        """The types of keys, or what Redis says instead; any other key is not there."""
        self.more_keys: list[bytes] = []
        """Keys that are not tasks."""
        self.changes: list[tuple[Any, ...]] = []
        """The arguments of all changes that were asked for."""
        self.results: list[int] = []
        """What the script answers to the next changes; 1 after that."""
        self.hashes: dict[bytes, dict[str, bytes]] = {}
        """What HMGET finds."""
        self.histories: dict[bytes, tuple[int, int]] = {}
        """Of histories of scheduler entries: when was added to them last, and milliseconds to live."""
        self._page = page
        for task in tasks:
            if task.score is not None:
                entries = self.indexes.setdefault(index_key(task.queue, task.state), [])
                insort(entries, (int(task.score), task.id))

    def run(self, name: str, key: bytes, *arguments: bytes | str | int) -> Any:
        """Reply as the script of that name would."""
        if name == "existing_keys/read_history":
            newest, ttl_ms = self.histories.get(key, (0, -2))
            return [self.types.get(key, b"zset" if key in self.histories else b"none"), ttl_ms, b"%d" % newest]
        if name == "existing_keys/change_history":
            self.changes.append((key, *arguments))
            return self.results.pop(0) if self.results else 1
        prefix, *rest = arguments
        assert isinstance(prefix, bytes)
        scripts: dict[str, Callable[..., Any]] = {
            "shared/read_tasks": self._read_tasks,
            "existing_keys/read_index": self._read_index,
            "existing_keys/queue_places": self._queue_places,
            "existing_keys/check_list": self._check_list,
            "existing_keys/check_index": self._check_index,
            "existing_keys/change_tasks": self._change_tasks,
        }
        return scripts[name](key, prefix, *rest)

    def run_all(self, name: str, calls: Sequence[tuple[bytes | str | int, ...]]) -> list[Any]:
        """Reply to each as `run` does."""
        return [self.run(name, key, *arguments) for key, *arguments in calls if isinstance(key, bytes)]

    def ask(self, key: bytes, command: str, *arguments: Any) -> Any:
        """Reply to a command about a key."""
        replies: dict[str, Callable[..., Any]] = {
            "HMGET": lambda: self.hmget(key, list(arguments)),
            "PTTL": lambda: self.pttl(key),
            "ZCOUNT": lambda: self.zcount(key, *arguments),
            "ZRANGE": list,
        }
        return replies[command]()

    def types_of(self, keys: Sequence[bytes]) -> list[bytes]:
        """Return the types of keys."""
        return checked([self.types.get(key) or type_at(key) or b"none" for key in keys])

    def scan(self, cursor: Cursor, *, match: bytes, count: int) -> tuple[Cursor, list[bytes]]:
        """Yield four keys at a time; the cursor is how many were yielded."""
        cursor = int(cursor)
        keys = [key for key in (*self.tasks, *self.more_keys, *self.histories) if fnmatchcase(key, match)]
        following = cursor + 4
        return (0 if following >= len(keys) else following), keys[cursor:following]

    def now(self) -> int:
        """Return the time."""
        return NOW

    def zcard(self, key: bytes) -> int:
        """Return how many entries an index has."""
        return len(self.indexes.get(key, ()))

    def zcount(self, key: bytes, lowest: int, highest: int) -> int:
        """Return how many entries of an index have a score between two."""
        return sum(lowest <= score <= highest for score, _ in self.indexes.get(key, ()))

    def dbsize(self) -> int:
        """Return how many keys there are."""
        return len(self.tasks) + len(self.more_keys)

    def refused(self, commands: Iterable[str], key: bytes) -> Refused:
        """Return that the user may run all."""
        return Refused()

    def memory_usage(self, keys: list[bytes], samples: int) -> list[int | None]:
        """Return the bytes that each key takes: a task half a kilobyte, an index twice as much."""
        return [500 if samples == 0 else 1000 for _ in keys]

    def hmget(self, key: bytes, fields: list[str]) -> list[bytes | None]:
        """Return fields of a hash."""
        if isinstance(fault := self.types.get(key), Exception):
            raise fault
        return [self.hashes.get(key, {}).get(field) for field in fields]

    def pttl(self, key: bytes) -> int:
        """Return that a uniqueness lock has an hour to live."""
        return 3_600_000

    def _row(self, key: bytes) -> list[Any]:
        task = self.tasks.get(key)
        if task is None or not task.exists:
            return []
        record, message = task.record, None
        if record is not None:
            times: dict[str, Any] = {"last_failed_at": record.last_failed_at, "completed_at": record.completed_at}
            message = encode_task(record.type, "", task.queue, record.retention, unique_key=record.unique_key, **times)
        pending = b"%d000000000" % task.pending_since if task.pending_since else b""
        locked, hold = int(task.locked), None if task.hold is None else task.hold.value
        about = [task.state.encode(), message, task.size, task.ttl_ms, task.score, locked, task.result]
        return [*about, task.digest, pending, [], hold]

    def _read_tasks(self, _key: bytes, prefix: bytes, _budget: int, _want: str, *ids: bytes) -> list[list[Any]]:
        return [self._row(prefix + b"t:" + task_id) for task_id in ids[: self._page]]

    def _read_index(self, key: bytes, prefix: bytes, *arguments: Any) -> list[Any]:
        _budget, _want, most, score, task_id = arguments
        entries = self.indexes.get(key, [])
        after = [entry for entry in entries if not score or entry > (int(score), task_id)]
        if score and (int(score), task_id) not in entries:
            after = [entry for entry in entries if entry[0] >= int(score)]
        found: list[Any] = []
        for value, name in after[: min(most, self._page)]:
            found += [name, b"%d" % value, self._row(prefix + b"t:" + name)]
        return found

    def _queue_places(self, _key: bytes, prefix: bytes, *names: str) -> list[Any]:
        found: list[Any] = []
        for key in (prefix + name.encode() for name in names):
            kind = b"list" if key in self.lists else b"zset" if key in self.indexes else b"none"
            found += [self.types.get(key, kind), len(self.lists.get(key, self.indexes.get(key, ())))]
        return found

    def _check_list(self, key: bytes, prefix: bytes, first: int, most: int) -> list[list[bytes]]:
        ids = self.lists.get(key, [])[first : first + most]
        return [ids, [name for name in ids if not self._row(prefix + b"t:" + name)]]

    def _check_index(self, key: bytes, prefix: bytes, *arguments: Any) -> list[Any]:
        state, most, score, task_id = arguments
        entries = [entry for entry in self.indexes.get(key, []) if not score or entry > (int(score), task_id)][:most]
        last: list[Any] = [b"%d" % entries[-1][0], entries[-1][1]] if entries else [b"", b""]
        found: list[Any] = [len(entries), *last]
        for _, name in entries:
            row = self._row(prefix + b"t:" + name)
            if not row or row[0] != state.encode():
                found += [name, row[0] if row else b""]
        return found

    def _change_tasks(self, _key: bytes, _prefix: bytes, *arguments: Any) -> list[int]:
        changes = [arguments[at : at + 9] for at in range(0, len(arguments), 9)]
        self.changes += changes
        return [self.results.pop(0) if self.results else 1 for _ in changes]
