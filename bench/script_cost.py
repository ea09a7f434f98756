"""What Redis spends on each wrapped script, beside the original, at realistic list sizes.

One Redis, one queue with thousands of tasks in each place. Every operation is done in blocks, by turns past the sidecar
(the original) and through it (the wrapped script); `INFO commandstats` tells the microseconds of each block's scripts,
all that they call included. A block is one pipeline, so that Redis's caches are as warm as under load. The calls are
Asynq's own, its texts come from the Go module cache; the last one is a foreign worker's.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from contestants import POLICY, start_server
from redis import Redis

from support.asynq_calls import PREFIX, QUEUE, TASK, AsynqCalls, calls_of
from support.foreign_worker import FAIL
from support.servers import SidecarFactory
from support.task_message import encode_task

SIZES = {"pending": 20_000, "active": 10, "scheduled": 1_000, "archived": 10_000, "completed": 10_000}
"""Tasks in each place before an operation. Asynq's own cap for `archived` is 10,000."""
_BLOCK = 20
_RETENTION = 3_600
_MESSAGE_BYTES = 100


@dataclass(frozen=True, slots=True)
class Cost:
    """What Redis spent on one script: microseconds per call, median over the blocks."""

    operation: str
    script: str
    original_us: float
    wrapped_us: float
    ratio: float
    """Median of the ratios of neighbouring blocks."""
    calls: int


class Queue:
    """One queue, filled past the sidecar as the sidecar would leave it.

    Args:
        client: a client of the server itself.
        sizes: tasks in each place.
    """

    def __init__(self, client: "Redis", sizes: Mapping[str, int] = SIZES) -> None:
        self.client = client
        self.sizes = sizes
        self._made = 0

    @property
    def now(self) -> int:
        """The time that a worker has."""
        return int(time.time())

    def fill(self, place: str, count: int, *, due: bool = False, retention: int | None = None) -> list[str]:
        """Put new tasks into a place, and return their IDs.

        Args:
            place: a state.
            count: how many.
            due: completed tasks only: their time is over.
            retention: that of the tasks; None for the usual one of their place.
        """
        task_ids = self.new(count)
        pipeline = self.client.pipeline(transaction=False)
        for position, task_id in enumerate(task_ids):
            usual = _RETENTION if place in {"active", "completed"} else 0
            content = message(task_id, usual if retention is None else retention)
            pipeline.hset(TASK + task_id, mapping={"msg": content, "state": place})
            if place in {"pending", "active"}:
                pipeline.lpush(PREFIX + place, task_id)
            if place == "active":
                pipeline.zadd(PREFIX + "lease", {task_id: self.now + 30})
            if place == "archived":
                pipeline.zadd(PREFIX + place, {task_id: self.now - count + position})
            if place in {"scheduled", "completed"}:
                pipeline.zadd(PREFIX + place, {task_id: self.now + (-60 if due else _RETENTION)})
            if place in {"archived", "completed"}:
                pipeline.expire(TASK + task_id, 7 * 86_400)
        pipeline.execute()
        return task_ids

    def new(self, count: int) -> list[str]:
        """Return the IDs of tasks that are not there yet."""
        first, self._made = self._made, self._made + count
        return [f"00000000-0000-0000-0000-{number:012}" for number in range(first, self._made)]

    def top_up(self, place: str) -> None:
        """Bring a place to its size."""
        key = PREFIX + place
        size: Any = self.client.llen(key) if place in {"pending", "active"} else self.client.zcard(key)
        self.fill(place, max(0, self.sizes[place] - size))


def message(task_id: str, retention: int = _RETENTION) -> bytes:
    """Return the message of a task."""
    return encode_task("bench:task", task_id, QUEUE, retention, payload=b"x" * _MESSAGE_BYTES)


@dataclass(frozen=True, slots=True)
class Operation:
    """One script under one condition.

    Attributes:
        name: what is told.
        script: its name in Asynq; `foreign` for another program's.
        prepare: brings the queue into the state for one block, and returns what each call is about.
        call: does it.
    """

    name: str
    script: str
    prepare: Callable[[Queue], Sequence[Any]]
    call: Callable[[AsynqCalls[Any], Queue, Any], Any]


def _active(queue: Queue) -> Sequence[str]:
    queue.top_up("archived")
    queue.top_up("active")
    return queue.fill("active", _BLOCK)


def _active_done(queue: Queue) -> Sequence[str]:
    queue.top_up("active")
    return queue.fill("active", _BLOCK, retention=0)


def _active_half_full(queue: Queue) -> Sequence[str]:
    queue.client.zremrangebyrank(f"{PREFIX}archived", 0, -queue.sizes["archived"] // 2 - 1)
    return queue.fill("active", _BLOCK)


def _pending(queue: Queue) -> Sequence[None]:
    queue.top_up("pending")
    queue.client.delete(f"{PREFIX}active")
    queue.top_up("active")
    return [None] * _BLOCK


def _new(queue: Queue) -> Sequence[str]:
    queue.client.ltrim(f"{PREFIX}pending", 0, queue.sizes["pending"] - 1)
    return queue.new(_BLOCK)


def _empty(queue: Queue) -> Sequence[None]:
    queue.client.delete(f"{PREFIX}pending")
    return [None] * _BLOCK


def _archived(queue: Queue) -> Sequence[str]:
    queue.top_up("archived")
    first = queue.sizes["archived"] // 2
    found: Any = queue.client.zrange(f"{PREFIX}archived", first, first + _BLOCK - 1)
    return [task_id.decode() for task_id in found]


def _in_scheduled(queue: Queue) -> Sequence[str]:
    queue.top_up("archived")
    return queue.fill("scheduled", _BLOCK)


def _all(place: str) -> Callable[[Queue], Sequence[None]]:
    def prepare(queue: Queue) -> Sequence[None]:
        queue.client.delete(PREFIX + place)
        queue.fill(place, 1_000)
        return [None]

    return prepare


def _scheduled(queue: Queue) -> Sequence[None]:
    _active_half_full(queue)  # so that nothing is trimmed
    return _all("scheduled")(queue)


def _due(queue: Queue) -> Sequence[None]:
    queue.top_up("completed")
    queue.fill("completed", 100, due=True)
    return [None]


OPERATIONS = (
    Operation(
        "enqueue, replaceable",
        "enqueueCmd",
        _new,
        lambda calls, queue, task: calls.enqueue(task, message(task), None, queue.now),
    ),
    # The original refuses it.
    Operation(
        "enqueue, replacing",
        "enqueueCmd",
        _archived,
        lambda calls, queue, task: calls.enqueue(task, message(task), None, queue.now),
    ),
    Operation("dequeue", "dequeueCmd", _pending, lambda calls, queue, _: calls.dequeue(queue.now)),
    Operation("dequeue, nothing pending", "dequeueCmd", _empty, lambda calls, queue, _: calls.dequeue(queue.now)),
    Operation(
        "complete",
        "markAsCompleteCmd",
        _active,
        lambda calls, queue, task: calls.complete(task, message(task), _RETENTION, None, queue.now),
    ),
    Operation(
        "done, kept by a rule", "doneCmd", _active_done, lambda calls, queue, task: calls.done(task, None, queue.now)
    ),
    Operation(
        "archive, archive full",
        "archiveCmd",
        _active,
        lambda calls, queue, task: calls.archive(task, message(task), queue.now),
    ),
    Operation(
        "archive, archive half full",
        "archiveCmd",
        _active_half_full,
        lambda calls, queue, task: calls.archive(task, message(task), queue.now),
    ),
    Operation(
        "archive one by hand",
        "archiveTaskCmd",
        _in_scheduled,
        lambda calls, queue, task: calls.archive_one(task, queue.now),
    ),
    Operation("run one archived", "runTaskCmd", _archived, lambda calls, _, task: calls.run_one(task)),
    Operation(
        "run all of 1,000 archived", "runAllCmd", _all("archived"), lambda calls, _queue, _: calls.run_all("archived")
    ),
    Operation(
        "archive all of 1,000 scheduled",
        "archiveAllCmd",
        _scheduled,
        lambda calls, queue, _: calls.archive_all("scheduled", queue.now),
    ),
    Operation(
        "delete all of 1,000 completed",
        "deleteAllCmd",
        _all("completed"),
        lambda calls, _queue, _: calls.delete_all("completed"),
    ),
    Operation(
        "janitor, 100 due", "deleteExpiredCompletedTasksCmd", _due, lambda calls, queue, _: calls.janitor(queue.now)
    ),
    # The last one: its scores are in nanoseconds, and it trims nothing.
    Operation(
        "archive by a foreign script, wrapped by effect",
        "foreign",
        _active,
        lambda calls, _, task: calls.call_foreign(
            "foreign", FAIL, [TASK + task, f"{PREFIX}active", f"{PREFIX}archived"], [task, message(task)]
        ),
    ),
)


def script_costs(server_kind: str, blocks: int) -> list[Cost]:
    """Measure every operation.

    Args:
        server_kind: one of `contestants.SERVERS`.
        blocks: how many of each operation, each way.

    Raises:
        AssertionError: a script failed, or was not wrapped.
    """
    with (
        start_server(server_kind) as server,
        TemporaryDirectory() as folder,
        SidecarFactory(Path(folder)) as start,
        start(server.url, policy_text(), sweep_interval="0").client() as through,
        server.client() as past,
    ):
        queue = Queue(past)
        for place in SIZES:
            queue.top_up(place)
        return [_measure(operation, queue, (past, through), blocks) for operation in OPERATIONS]


def policy_text(sizes: Mapping[str, int] = SIZES) -> str:
    """Return the policy file: the archive is full at its size, and what is done without a Retention is kept."""
    policy = POLICY.format(mode="enforce").replace("50000", str(sizes["archived"]))
    policy = policy.replace("completed: {ttl: keep}", "completed: {ttl: keep}, done: {ttl: 2h}")
    return policy.replace("{ttl: 7d, ", "{ttl: 7d, on_conflict: replace, ")


def _measure(operation: Operation, queue: Queue, ways: tuple["Redis", "Redis"], blocks: int) -> Cost:
    learn(operation, queue, ways)
    rows = []
    for block in range(blocks):
        order = (0, 1) if block % 2 else (1, 0)
        row = {way: _block(operation, queue, ways[way]) for way in order}
        rows.append((row[0], row[1]))
    original, wrapped = (median(column) for column in zip(*rows, strict=True))
    ratio = median(row[1] / row[0] for row in rows)
    calls = blocks * len(operation.prepare(queue))
    return Cost(operation.name, operation.script, original, wrapped, ratio, calls)


def _block(operation: Operation, queue: Queue, way: "Redis") -> float:
    """Do one block, and return Redis's microseconds per call."""
    about = operation.prepare(queue)
    pipeline = way.pipeline(transaction=False)
    for each in about:
        operation.call(calls_of(pipeline), queue, each)
    queue.client.config_resetstat()
    pipeline.execute()
    stats: Any = queue.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == len(about), stats
    return float(stats["cmdstat_evalsha"]["usec"]) / len(about)


def learn(operation: Operation, queue: Queue, ways: tuple["Redis", "Redis"]) -> None:
    """Do a block each way that is not counted: scripts are learnt in it.

    Args:
        operation, queue: the operation, and the queue that it is done in.
        ways: past the sidecar and through it.

    Raises:
        AssertionError: the script is not wrapped.
    """
    past, through = (_shas(operation, queue, way) for way in ways)
    assert not past & through, f"{operation.script} is not wrapped"


def _shas(operation: Operation, queue: Queue, way: "Redis") -> set[bytes]:
    """Do one block, and return the SHAs that Redis was asked for at its end."""
    calls = calls_of(way)
    for each in operation.prepare(queue):
        operation.call(calls, queue, each)
    about = operation.prepare(queue)
    queue.client.config_set("slowlog-log-slower-than", 0)
    queue.client.slowlog_reset()
    operation.call(calls, queue, about[0])
    entries: Any = queue.client.slowlog_get(20)
    queue.client.config_set("slowlog-log-slower-than", -1)
    return {entry["command"].split()[1] for entry in entries if entry["command"].upper().startswith(b"EVALSHA")}
