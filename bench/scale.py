"""Many connections, and connections that behave badly: what they cost the proxy, and what the others notice of them.

The others are 20 connections that GET 64 bytes (redis-benchmark). They are measured alone, then beside the misfits.
"""

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TypeVar

from commands_load import CommandsLoad, benchmark
from comparison import Figures, Load, Measurement
from contestants import Contestant, most_connections
from processes import cpu, memory

_PING, _PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
_GET = b"*2\r\n$3\r\nGET\r\n$11\r\nbench:large\r\n"
_OTHERS = CommandsLoad(20, 1, 64)
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class IdleLoad:
    """Many connections that have asked once and then say nothing."""

    connections: int = 10_000
    name: str = "idle"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it, with fewer connections where the limit of open files asks for that."""
        count = min(self.connections, most_connections())
        found: Figures = {"connections": count}
        if not contestant.processes:
            return Measurement(found)
        start = memory(*contestant.processes).now
        with ExitStack() as stack:
            began = time.monotonic()
            for _ in range(count):
                _ping(stack.enter_context(socket.create_connection(("127.0.0.1", contestant.port))))
            found["connected_per_second"] = count / (time.monotonic() - began)
            time.sleep(0.5)
            now, used = memory(*contestant.processes).now, cpu(*contestant.processes)
            time.sleep(2)
            found["idle_cpu_percent"] = (cpu(*contestant.processes) - used).total / 2 * 100
        return Measurement(found | {"rss_start_mb": start / 1024, "rss_per_connection_kb": (now - start) / count})


@dataclass(frozen=True, slots=True)
class ChurnLoad:
    """A thousand connections a second that are opened, ask once and are closed."""

    rate: int = 1_000
    threads: int = 8
    name: str = "churn"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it."""
        return _beside_others(contestant, lambda stop: self._churn(contestant.port, stop), self.threads, _churned)

    def _churn(self, port: int, stop: threading.Event) -> tuple[list[float], float]:
        """Return the milliseconds of each, and how long it was done for."""
        times = []
        began = due = time.monotonic()
        while not stop.is_set():
            started = time.monotonic()
            with socket.create_connection(("127.0.0.1", port)) as connection:
                _ping(connection)
            times.append((time.monotonic() - started) * 1000)
            due += self.threads / self.rate
            time.sleep(max(0.0, due - time.monotonic()))
        return times, time.monotonic() - began


@dataclass(frozen=True, slots=True)
class SlowReaderLoad:
    """A client that asks for 100 MB and reads 6 MB of it a second."""

    size: int = 100_000_000
    name: str = "slow-reader"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it."""
        _store(contestant, self.size)
        return _beside_others(contestant, lambda stop: _read_slowly(contestant.port, stop), 1, _nothing)


@dataclass(frozen=True, slots=True)
class NeverReadsLoad:
    """A client that asks for 1 MB two hundred times and reads nothing."""

    requests: int = 200
    size: int = 1_000_000
    name: str = "never-reads"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it."""
        _store(contestant, self.size)
        return _beside_others(contestant, lambda stop: self._ask(contestant.port, stop), 1, _nothing)

    def _ask(self, port: int, stop: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(_GET * self.requests)
            stop.wait()


def scale_loads() -> list[Load]:
    """Return all loads of this module."""
    return [IdleLoad(), ChurnLoad(), SlowReaderLoad(), NeverReadsLoad()]


def _beside_others(
    contestant: Contestant,
    misfit: Callable[[threading.Event], _Result],
    threads: int,
    told: Callable[[list[_Result]], Figures],
) -> Measurement:
    """Measure the others alone, then while the misfit does what it does."""
    start = memory(*contestant.processes).now
    alone, _ = benchmark(contestant.port, "get", _OTHERS)
    stop = threading.Event()
    with ThreadPoolExecutor(threads) as pool:
        misfits = [pool.submit(misfit, stop) for _ in range(threads)]
        try:
            time.sleep(0.5)
            beside, latencies = benchmark(contestant.port, "get", _OTHERS)
            time.sleep(1)
        finally:
            stop.set()
        results = [each.result() for each in misfits]
    figures = {f"others_alone_{name}": alone[name] for name in ("per_second", "p99_ms")}
    figures |= {f"others_{name}": beside[name] for name in ("per_second", "p99_ms")}
    figures["others_kept"] = beside["per_second"] / alone["per_second"]
    figures |= told(results)
    if contestant.processes:
        figures["rss_grown_mb"] = (memory(*contestant.processes).peak - start) / 1024
    return Measurement(figures, latencies)


def _churned(results: list[tuple[list[float], float]]) -> Figures:
    times = sorted(each for milliseconds, _ in results for each in milliseconds)
    return {
        "churned_per_second": sum(len(milliseconds) / seconds for milliseconds, seconds in results),
        "connect_and_ping_p50_ms": times[len(times) // 2],
        "connect_and_ping_p99_ms": times[len(times) * 99 // 100],
    }


def _nothing(_: list[None]) -> Figures:
    return {}


def _read_slowly(port: int, stop: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(_GET)
        while not stop.wait(0.01):
            connection.recv(1 << 16)


def _store(contestant: Contestant, size: int) -> None:
    with contestant.server.client() as client:
        client.set("bench:large", b"x" * size)


def _ping(connection: socket.socket) -> None:
    connection.sendall(_PING)
    reply = connection.recv(64)
    if reply != _PONG:
        raise RuntimeError(f"PING was answered with {reply!r}")
