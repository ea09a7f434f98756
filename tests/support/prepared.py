"""Commands of `asynq-ttl` as processes that have nothing to import: each is forked from one that already has.

Most of the half second of CPU time that a sidecar takes to start goes into imports, and a test run starts hundreds.
What is forked is a process like any other. It has its own arguments, variables and files, it gets signals, and it ends
as Python ends. In the system's list of processes all of them are called `asynq-ttl serve`.

Variables that are read when something is imported, or by the dynamic linker, come too late for such a process.
"""

import atexit
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

import asynq_ttl
from asynq_ttl.cli.hidden_arguments import without_secrets
from support.paths import ROOT

_REQUEST_BYTES = 1 << 17


class Running(Protocol):
    """A process: what tests use of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """Return its status, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the status; raises `subprocess.TimeoutExpired`."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, if it runs."""

    def terminate(self) -> None:
        """Send it SIGTERM."""

    def kill(self) -> None:
        """Send it SIGKILL."""


class _Forked:
    """A process whose parent writes its status into a pipe."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid = pid
        self._pipe = status
        self._status: int | None = None

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            ready = select.poll()
            ready.register(self._pipe, select.POLLIN)
            if not ready.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired("asynq-ttl", timeout or 0)
            self._status = int(os.read(self._pipe, 20))
            os.close(self._pipe)
        return self._status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def launch(
    arguments: Sequence[str],
    *,
    stdout: IO[bytes],
    stderr: IO[bytes],
    env: Mapping[str, str],
    start_new_session: bool = False,
) -> Running:
    """Run `asynq-ttl`, as `subprocess.Popen` would.

    Args:
        arguments: those of the command line, without the program.
        stdout: its standard output.
        stderr: its standard error.
        env: all of its variables.
        start_new_session: whether it leads a session and process group of its own.
    """
    kept, hidden = without_secrets(arguments)  # the program would run itself again without them
    request = {
        "arguments": kept,
        "variables": {**env, **hidden},
        "folder": str(Path.cwd()),
        "leads": start_new_session,
    }
    reader, writer = os.pipe()
    station = _station()
    socket.send_fds(station, [json.dumps(request).encode()], [stdout.fileno(), stderr.fileno(), writer])
    os.close(writer)
    return _Forked(int(station.recv(20)), reader)


@cache
def _station() -> socket.socket:
    """Return a connection to the process that all are forked from. It ends when this process does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    variables = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    # `asynq-ttl drain` tells a sidecar by the end of its command line.
    line = [sys.executable, "-c", "from support.prepared import stand_by; stand_by()", "asynq-ttl", "serve"]
    process = subprocess.Popen(
        line, stdin=theirs.fileno(), env={**variables, "PYTHONPATH": str(ROOT / "tests")}, cwd=ROOT
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def stand_by() -> None:
    """Import everything, and become a command whenever one is asked for at standard input."""
    for module in pkgutil.walk_packages(asynq_ttl.__path__, "asynq_ttl."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    gc.freeze()
    station, statuses = socket.socket(fileno=0), dict[int, int]()
    signal.signal(signal.SIGCHLD, lambda *_: _reap(statuses))
    while True:
        data, files, *_ = socket.recv_fds(station, _REQUEST_BYTES, 3)
        if not data:
            os._exit(0)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # until it is known whose status is to be told
        pid = os.fork()
        if not pid:
            break
        statuses[pid] = files.pop()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        for file in files:
            os.close(file)
        station.send(str(pid).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    station.detach()
    _become(json.loads(data), files, list(statuses.values()))


def _reap(statuses: dict[int, int]) -> None:
    for pid in list(statuses):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            pipe = statuses.pop(pid)
            os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(pipe)


def _become(request: Any, files: list[int], others: list[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((nothing, *files[:2])):
        os.dup2(file, number)
    for file in (nothing, *files, *others):
        os.close(file)
    if request["leads"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    sys.argv[:] = ["asynq-ttl", *request["arguments"]]
    import_module("asynq_ttl.__main__").main()
