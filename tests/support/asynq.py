"""Real Asynq for tests, by way of the Go harness."""

import json
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

_SECONDS = 60


class Worker:
    """A running Asynq server; `stop` ends it gracefully, `kill` does not."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._before: list[Json] = []
        assert process.stdout is not None
        # A task may start before the worker has said that it is ready.
        while (event := json.loads(process.stdout.readline() or "null")) != {"event": "ready"}:
            assert event is not None, "the worker does not start"
            self._before.append(event)

    def stop(self) -> None:
        """Shut it down as an operator would."""
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=_SECONDS)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate(timeout=_SECONDS)

    def wait(self) -> list[Json]:
        """Wait until it ends by itself (`-until-idle`, `-for`) and return its events."""
        output, _ = self.process.communicate(timeout=_SECONDS)
        return self._before + [json.loads(line) for line in output.splitlines()]


class Harness:
    """Asynq clients, workers and inspectors. Ends what it started when the block does.

    Args:
        program: the built harness.
        cluster: whether the addresses are those of nodes of a cluster.
    """

    def __init__(self, program: Path, *, cluster: bool = False) -> None:
        self._program = program
        self._cluster = ["-cluster"] if cluster else []
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.kill()

    def enqueue(self, address: str, *tasks: Json, database: int = 0) -> list[Json]:
        """Enqueue tasks and return an answer for each."""
        return self._lines("enqueue", address, tasks, database)

    def inspect(self, address: str, *operations: Json, database: int = 0) -> list[Any]:
        """Do Inspector operations and return their results; fails on the first that fails."""
        answers = self._lines("inspect", address, operations, database)
        for operation, answer in zip(operations, answers, strict=True):
            assert answer["ok"], (operation, answer)
        return [answer["result"] for answer in answers]

    def try_inspect(self, address: str, *operations: Json, database: int = 0) -> list[Json]:
        """Do Inspector operations and return their whole answers, failed ones too."""
        return self._lines("inspect", address, operations, database)

    def serve(self, address: str, *options: str, database: int = 0) -> Worker:
        """Start a worker."""
        command = [str(self._program), "serve", "-redis", address, "-db", str(database), *self._cluster, *options]
        worker = Worker(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        self._workers.append(worker)
        return worker

    def work(self, address: str, *options: str, database: int = 0) -> list[Json]:
        """Run a worker until its queues are empty and return its events."""
        quick = ("-task-check-interval", "20ms", "-delayed-check-interval", "100ms", "-until-idle")
        return self.serve(address, *quick, *options, database=database).wait()

    def start(self, command: str, address: str, *options: str) -> "subprocess.Popen[str]":
        """Start any command of the harness (`demo`, `load`) and return its process."""
        line = [str(self._program), command, "-redis", address, *self._cluster, *options]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _lines(self, command: str, address: str, lines: tuple[Json, ...], database: int) -> list[Json]:
        run = subprocess.run(
            [str(self._program), command, "-redis", address, "-db", str(database), *self._cluster],
            input="".join(json.dumps(line) + "\n" for line in lines),
            capture_output=True,
            text=True,
            # A copy: another thread may change the environment at this very moment (click's CliRunner does).
            env=dict(os.environ),
            timeout=_SECONDS,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        return [json.loads(line) for line in run.stdout.splitlines()]
