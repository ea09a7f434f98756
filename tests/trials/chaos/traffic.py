"""Real Asynq traffic: clients that enqueue until they are believed, workers, and operators with an Inspector.

Everything is written down: which IDs were accepted, how each attempt ended, which operation was asked for and when.
"""

import json
import queue
import random
import subprocess
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from trials.chaos.policy import OPERATED, QUEUES, TTL_SECONDS, replaced

Json = dict[str, Any]

# What can be told to an operator's Inspector, and how often. `{id}` stands for a task that it saw in a listing.
_OPERATIONS: tuple[tuple[int, Json], ...] = (
    (8, {"op": "list", "state": "archived", "size": 30}),
    (4, {"op": "list", "state": "completed", "size": 30}),
    (3, {"op": "list", "state": "retry", "size": 30}),
    (3, {"op": "list", "state": "scheduled", "size": 30}),
    (20, {"op": "run_task", "id": "{id}"}),
    (6, {"op": "archive_task", "id": "{id}"}),
    (6, {"op": "delete_task", "id": "{id}"}),
    (6, {"op": "queue_info"}),
    (3, {"op": "run_all", "state": "archived"}),
    (2, {"op": "run_all", "state": "retry"}),
    (1, {"op": "run_all", "state": "scheduled"}),
    (2, {"op": "archive_all", "state": "pending"}),
    (2, {"op": "archive_all", "state": "retry"}),
    (2, {"op": "archive_all", "state": "scheduled"}),
    (1, {"op": "delete_all", "state": "archived"}),
    (1, {"op": "delete_all", "state": "completed"}),
    (1, {"op": "delete_all", "state": "pending"}),
    (1, {"op": "delete_all", "state": "retry"}),
)
_OPERATION_SECONDS = 0.25
_ANSWER_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Operation:
    """Something an operator asked for; `ended` is when it was answered, and `error` empty if it was done."""

    op: str
    queue: str
    state: str
    task_id: str
    began: float
    ended: float
    error: str


class Program:
    """A command of the harness as a process, whose lines are read as they come.

    Args:
        program: the built harness.
        folder: where its standard error goes.
        command: the command and its options.
    """

    def __init__(self, program: Path, folder: Path, *command: str) -> None:
        self._log = (folder / f"{command[0]}-{time.monotonic_ns()}.log").open("wb")
        self.process = subprocess.Popen(
            [str(program), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin: IO[str] = self.process.stdin
        self._stdout: IO[str] = self.process.stdout
        self.lines: queue.Queue[Json] = queue.Queue()
        """What it has said and nobody has taken."""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, line: Json) -> None:
        """Write a line."""
        self._stdin.write(json.dumps(line) + "\n")
        self._stdin.flush()

    def end(self) -> None:
        """End it as an operator would; kill it if it does not heed that. Then all it said is in `lines`."""
        self._stdin.close()
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join()
        self._stdout.close()
        self._log.close()

    def _read(self) -> None:
        for line in self._stdout:
            self.lines.put(json.loads(line))


class Feeder(threading.Thread):
    """Enqueues tasks of all kinds at a rate, each under an ID of its own and again until it is accepted.

    Those of one kind it also enqueues under IDs that it has used before: they replace what has ended.

    Args:
        program: an `enqueue` command that is running.
        name: sets its IDs apart from those of others.
        rate: tasks per second.
        seed: makes the choice of tasks repeatable.
        flooded: says whether too much waits for the workers: then nothing new is enqueued.
    """

    def __init__(self, program: Program, name: str, rate: float, seed: int, flooded: Callable[[], bool]) -> None:
        super().__init__(name=f"feeder {name}", daemon=True)
        self.accepted: dict[str, str] = {}
        """The queue of each accepted ID."""
        self.times: Counter[str] = Counter()
        """How often it was told that a task with an ID has been added."""
        self.conflicts = 0
        """How often an ID that it used again was taken, by what is not replaced or by a task whose reply was lost."""
        self.refusals: list[str] = []
        """Why tasks were not accepted at first."""
        self._program = program
        self._label = name
        self._rate = rate
        self._flooded = flooded
        self._random = random.Random(seed)
        self._answers = program.lines
        self._sent: dict[int, Json] = {}
        # IDs that may be used again, and their queues; none while a task with it is on its way.
        self._used: deque[tuple[str, str]] = deque(maxlen=_USED_AGAIN)
        self._line = 0
        self._over = threading.Event()

    @property
    def outstanding(self) -> int:
        """Tasks that were sent and not yet accepted."""
        return len(self._sent)

    def run(self) -> None:
        """Enqueue until told to stop and everything sent has been accepted."""
        next_at, number = time.monotonic(), 0
        while not self._over.is_set() or self._sent:
            while not self._over.is_set() and next_at < time.monotonic():
                next_at += 1 / self._rate
                if not self._flooded():
                    number += 1
                    self._send(self._task(number))
            try:
                self._take(self._answers.get(timeout=0.02))
            except queue.Empty:
                continue

    def stop(self) -> None:
        """Send nothing new, and wait until what was sent has been accepted."""
        self._over.set()
        self.join(_ANSWER_SECONDS)

    def _send(self, task: Json) -> None:
        self._line += 1
        self._sent[self._line] = task
        self._program.send(task)

    def _take(self, answer: Json) -> None:
        task = self._sent.pop(answer["line"])
        kind = answer.get("kind")
        # A conflict of IDs, or of locks on a payload that no other task has, is an acceptance whose reply was lost.
        if kind in (None, "conflict", "duplicate"):
            self.times[task["id"]] += kind is None
            self.conflicts += kind is not None and task["id"] in self.accepted
            self.accepted[task["id"]] = task["queue"]
            if replaced(task["id"]):
                self._used.append((task["id"], task["queue"]))
        else:
            self.refusals.append(answer["error"])
            time.sleep(0.02)
            self._send(task)

    def _task(self, number: int) -> Json:
        """Make up a task; its ID begins with its kind, which is the first part of its type."""
        dice = self._random
        (kind,) = dice.choices(("order", "brief", "redo", "noise", "precious"), (50, 20, 15, 14, 1))
        task_id, where = f"{kind}-{self._label}-{number}", dice.choices(QUEUES, _SHARES)[0]
        if replaced(task_id) and self._used and dice.random() < _AGAIN_SHARE:
            task_id, where = dice.choice(self._used)
            self._used.remove((task_id, where))
        doing, options = dice.choices(_DOINGS, _WEIGHTS)[0]
        if kind == "precious":
            # They are never trimmed: what every `run_all` brings back must not become the whole load.
            doing, options = {"do": "skip", "skip_times": 1}, {}
        payload = {**doing, "result": task_id, "ms": dice.choice((0, 0, 0, 20, 150))}
        task = {"id": task_id, "type": f"{kind}:x", "queue": where, **options}
        return {**task, "payload": json.dumps(payload)}


# So many IDs are used again, in that share of the tasks: each about every three seconds, and for ten.
_USED_AGAIN = 30
_AGAIN_SHARE = 0.7
# Of the tasks in each queue: few in the vault.
_SHARES = (3, 3, 3, 1)
_KEEP = {"retention": f"{TTL_SECONDS}s"}
_DOINGS: tuple[tuple[Json, Json], ...] = (
    ({"do": "ok"}, {}),
    ({"do": "result"}, _KEEP),
    ({"do": "ok"}, {**_KEEP, "unique": "30s"}),
    ({"do": "skip"}, {}),
    ({"do": "skip"}, {"unique": "30s"}),
    ({"do": "skip", "skip_times": 1}, _KEEP),
    ({"do": "fail"}, {"max_retry": 1}),
    ({"do": "ok", "fail_times": 1}, _KEEP),
    ({"do": "ok"}, {**_KEEP, "process_in": "2s"}),
)
_WEIGHTS = (20, 20, 8, 15, 5, 8, 8, 8, 8)


class Worker:
    """An Asynq server that works on all queues, and what it said about every attempt."""

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        quick = ("-task-check-interval", "50ms", "-delayed-check-interval", "300ms", "-janitor-interval", "1s")
        queues = ("-queues", ",".join(f"{name}=1" for name in QUEUES))
        every = (*quick, *queues, "-concurrency", "8", "-retry-delay", "500ms", "-log-level", "error", *options)
        self._program = Program(program, folder, "serve", *every)
        self._lines = self._program.lines
        # A task may start before the worker has said that it is ready.
        early = []
        while (event := self._lines.get(timeout=30))["event"] != "ready":
            early.append(event)
        for event in early:
            self._lines.put(event)

    def stop(self) -> None:
        """Shut it down as an operator would."""
        self._program.end()

    def ends(self) -> dict[str, set[str]]:
        """Return the outcomes of the attempts at each task since the last call."""
        found: dict[str, set[str]] = defaultdict(set)
        while not self._lines.empty():
            event = self._lines.get()
            if event["event"] == "end":
                found[event["id"]].add(event["outcome"])
        return found


class Operator(threading.Thread):
    """Does random operations with an Inspector, one after the other.

    Args:
        program: an `inspect` command that is running.
        seed: makes the choice of operations repeatable.
        steady: keeps a queue where it is for a block, and says whether it is there: only then is anything done to many
            tasks at once.
    """

    def __init__(self, program: Program, seed: int, steady: Callable[[str], AbstractContextManager[bool]]) -> None:
        super().__init__(name="operator", daemon=True)
        self.done: list[Operation] = []
        self._program = program
        self._steady = steady
        self._random = random.Random(seed)
        self._answers = program.lines
        self._seen: list[tuple[str, str]] = []
        self._over = threading.Event()

    def run(self) -> None:
        """Operate until told to stop."""
        while not self._over.wait(_OPERATION_SECONDS):
            (operation,) = self._random.choices(
                [operation for _, operation in _OPERATIONS], [weight for weight, _ in _OPERATIONS]
            )
            operation = {"queue": self._random.choice(OPERATED), **operation}
            if "state" not in operation:
                self._do(operation)
                continue
            with self._steady(operation["queue"]) as steady:
                if steady:
                    self._do(operation)

    def stop(self) -> None:
        """End it after the operation under way."""
        self._over.set()
        self.join(_ANSWER_SECONDS)

    def _do(self, operation: Json) -> None:
        if operation.get("id"):
            if not self._seen:
                return
            operation["queue"], operation["id"] = self._seen.pop(self._random.randrange(len(self._seen)))
        began = time.time()
        self._program.send(operation)
        answer = self._answers.get(timeout=_ANSWER_SECONDS)
        if operation["op"] == "list" and answer["ok"]:
            self._seen = [(task["queue"], task["id"]) for task in answer["result"] if task["id"]] + self._seen[:50]
        # That a task or a queue is not there (any more) is an answer like any other.
        error = "" if answer["ok"] or answer["not_found"] else answer["error"]
        op, where, state, task_id = (operation.get(field, "") for field in ("op", "queue", "state", "id"))
        self.done.append(Operation(op, where, state, task_id, began, time.time(), error))
