"""Whatever fails between exec and "listening", and whenever it is told to end: one line, its status, nothing left."""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import command_line
from support.servers import Server, free_port, start_redis, wait_until

# How long it may take from what ends it to its end.
END_SECONDS = 2.0
START_SECONDS = 20.0


class Process:
    """`asynq-ttl serve`, however it ends."""

    def __init__(self, *options: object, **variables: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        line = command_line("serve", *options)
        self._errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            line, stdout=subprocess.DEVNULL, stderr=self._errors, env=environment | variables, start_new_session=True
        )

    def told(self) -> str:
        """Return what it has said so far."""
        with open(f"/proc/self/fd/{self._errors.fileno()}") as errors:
            return errors.read()

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.told() or self.process.poll() is not None, self.told())
        assert self.process.poll() is None, self.told()

    def end(self, *, within: float) -> int:
        """Return the status it ends with, in time and with nothing left."""
        status = self.process.wait(within)
        with pytest.raises(ProcessLookupError):
            os.killpg(self.process.pid, 0)
        return status

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it and all it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


@contextmanager
def serving(*options: object, **variables: str) -> Iterator[Process]:
    """Run `asynq-ttl serve` while the block runs."""
    process = Process(*options, **variables)
    try:
        yield process
    finally:
        process.kill()


def test_a_port_that_is_taken(redis_server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with serving("--listen", address, "--upstream", redis_server.url, "--admin", "off") as process:
            assert process.end(within=START_SECONDS) == 1
            print(process.told())
