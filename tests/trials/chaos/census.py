"""Looks at the whole keyspace of the queues at one moment, and says what is wrong with it.

Faults by their kind:

* `ghost`: an index names a task that is gone, or that is in another state.
* `orphan`: a task that the index of its state does not name.
* `twice`: a task that an index names more than once.
* `half`: a task hash without a message.
* `live-ttl`: a task that is not completed or archived has a TTL.
* `untimed`, `overtimed`: a completed or archived task without the TTL its rule gives, or with a longer one. One that is
  held has none.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis

from trials.chaos.policy import GRACE_SECONDS, QUEUES, TERMINAL, retention

_SCRIPT = (Path(__file__).parent / "census.lua").read_text()


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that must not be.

    Attributes:
        kind: what is wrong; see the module.
        queue: the queue.
        task_id: the task; empty if it is about no single one.
        detail: what was seen.
    """

    kind: str
    queue: str
    task_id: str
    detail: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task hash. `ttl_ms` is -1 without a TTL."""

    state: str
    has_message: bool
    ttl_ms: int
    held: bool = False


@dataclass(frozen=True, slots=True)
class Census:
    """What there was of one queue at one moment: the hashes by task ID, and the IDs in each index."""

    queue: str
    tasks: dict[str, Task]
    indexes: dict[str, list[str]]

    def faults(
        self, kept: Callable[[str, str], int | None] = retention, grace_seconds: int = GRACE_SECONDS
    ) -> list[Fault]:
        """Return what is wrong.

        Args:
            kept: says of a task ID and a terminal state for how many seconds the policy keeps it; None for ever.
            grace_seconds: the policy's.
        """
        found = [
            Fault(kind, self.queue, task_id, detail)
            for task_id, task in self.tasks.items()
            for kind, detail in self._faults_of(task_id, task, kept(task_id, task.state), grace_seconds)
        ]
        for index, members in self.indexes.items():
            state = "active" if index == "lease" else index
            twice = (task_id for task_id, times in Counter(members).items() if times > 1)
            found += [Fault("twice", self.queue, task_id, f"more than once in {index}") for task_id in twice]
            for task_id in members:
                task = self.tasks.get(task_id)
                if task is None or task.state != state:
                    seen = f"in {index}, but {f'it is {task.state}' if task else 'there is no such task'}"
                    found.append(Fault("ghost", self.queue, task_id, seen))
        return found

    def _faults_of(self, task_id: str, task: Task, kept: int | None, grace_seconds: int) -> Iterator[tuple[str, str]]:
        if not task.has_message:
            yield "half", f"{task.state} without a message"
        if task_id not in self.indexes.get(task.state, ()):
            yield "orphan", f"{task.state}, but not in that index"
        if task.state not in TERMINAL:
            if task.ttl_ms != -1:
                yield "live-ttl", f"{task.state} with {task.ttl_ms} ms to live"
        elif task.ttl_ms == -1 and kept is not None and not task.held:
            yield "untimed", f"{task.state} without a TTL"
        elif task.ttl_ms > ((kept or 0) + grace_seconds) * 1000:
            yield "overtimed", f"{task.state} with {task.ttl_ms} ms to live"

    def states(self) -> Counter[str]:
        """Count the tasks by state."""
        return Counter(task.state for task in self.tasks.values())

    @property
    def unfinished(self) -> int:
        """The number of tasks that are in no terminal state, by hash or by index."""
        indexed = sum(len(members) for index, members in self.indexes.items() if index not in TERMINAL)
        return indexed + sum(task.state not in TERMINAL for task in self.tasks.values())


def take(client: Redis, queues: Sequence[str] = QUEUES) -> list[Census]:
    """Look at each queue, each at one moment.

    Args:
        client: where.
        queues: their names.

    Raises:
        RedisError: Redis cannot be reached.
    """
    return [_decode(queue, client.eval(_SCRIPT, 0, f"asynq:{{{queue}}}:")) for queue in queues]


def _decode(queue: str, answer: Any) -> Census:
    content = json.loads(answer)
    tasks = {
        # Lua has one kind of empty table, which its JSON calls an object.
        task_id: Task(task["state"], task["msg"], int(task["ttl"]), task["held"])
        for task_id, task in content["hashes"].items()
    }
    return Census(queue, tasks, {index: list(members) for index, members in content["indexes"].items()})
