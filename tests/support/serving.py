"""`asynq-ttl serve` as a process whose end is looked at: when, with which status and word, and what it leaves."""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from support.commands import command_line
from support.prepared import Running, launch
from support.servers import wait_until

_SECONDS = 60.0


class Serving:
    """`asynq-ttl serve` in a process group of its own."""

    def __init__(self, log: Path, run: Callable[..., Running]) -> None:
        self._log = log
        with log.open("wb") as file, Path(os.devnull).open("wb") as nothing:
            self.process = run(stdout=nothing, stderr=file, start_new_session=True)

    def told(self) -> str:
        """Return what it has said so far."""
        return self._log.read_text()

    @property
    def faults(self) -> list[str]:
        """The lines that are not of the log, or are errors in it."""
        return [line for line in self.told().splitlines() if not re.search(" (INFO|WARNING) ", line)]

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.told() or self.process.poll() is not None, f"not said: {text}")
        assert self.process.poll() is None, self.told()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> int:
        """Return the status it ends with, and see that it leaves no process behind.

        One that does not end in time ends itself, with status 1: so 0 also says that nothing held it up.
        """
        try:
            status = self.process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.told()}") from None
        wait_until(lambda: not self._lives(), "it has left a process")
        return status

    def fail(self) -> int:
        """Return the status with which it fails to start."""
        return self.end()

    def kill(self) -> None:
        """End it and whatever it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _lives(self) -> bool:
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return False
        return True


@contextmanager
def serving(
    folder: Path,
    *options: object,
    before: tuple[str, ...] = (),
    variables: dict[str, str] | None = None,
    forked: bool = False,
) -> Iterator[Serving]:
    """Run `asynq-ttl serve` while the block runs.

    Args:
        folder: where its log is.
        options: of the command.
        before: a program, and its arguments, that runs the command line it is given.
        variables: more environment variables.
        forked: whether it need not begin at the very beginning; see `prepared`.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "ASYNQ_TTL_"))}
    number = len(list(folder.glob("log-*")))
    environment |= variables or {}
    if forked:
        run = partial(launch, ["serve", *map(str, options)], env=environment)
    else:
        run = partial(subprocess.Popen[bytes], [*before, *command_line("serve", *options)], env=environment)
    process = Serving(folder / f"log-{number}", run)
    try:
        yield process
    finally:
        process.kill()
