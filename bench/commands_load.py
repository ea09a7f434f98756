"""GETs and SETs: by redis-benchmark with many connections, pipelines and large values; by one connection, to the µs.

These are commands that the sidecar only lets through.
"""

import re
import socket
import subprocess
import time
from dataclasses import dataclass

from comparison import Figures, Measurement
from contestants import Contestant, program
from processes import cpu

CONNECTIONS = (1, 20, 200, 1000)
PIPELINES = (1, 16)
SIZES = {64: "64B", 4096: "4K", 1_048_576: "1M"}
# More than this on the way at once would measure the machine's memory.
_MOST_BYTES = 256 << 20
_KEY = b"bench:value"


@dataclass(frozen=True, slots=True)
class CommandsLoad:
    """SETs, then GETs, of one key.

    Attributes:
        connections: clients at a time.
        pipeline: commands that each sends before it waits for the replies.
        size: bytes of the value.
    """

    connections: int
    pipeline: int
    size: int

    @property
    def name(self) -> str:
        """Such as `c20-p16-64B`."""
        return f"c{self.connections}-p{self.pipeline}-{SIZES[self.size]}"

    @property
    def requests(self) -> int:
        """Requests of either kind: about a second's worth."""
        if self.size > 100_000:
            return 600
        return {1: 10_000, 20: 40_000, 200: 40_000, 1000: 40_000}[self.connections] * (4 if self.pipeline > 1 else 1)

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it."""
        before = cpu(*contestant.processes)
        server_before = cpu(contestant.server.process.pid)
        figures: Figures = {}
        latencies: list[tuple[float, float]] = []
        for command in ("set", "get"):
            found, latencies = benchmark(contestant.port, command, self)
            figures |= {f"{command}_{name}": value for name, value in found.items()}
        server = cpu(contestant.server.process.pid) - server_before
        figures["redis_cpu_us_per_command"] = server.total / self.requests / 2 * 1e6
        if contestant.processes:
            proxy = cpu(*contestant.processes) - before
            figures["proxy_cpu_us_per_command"] = proxy.total / self.requests / 2 * 1e6
        return Measurement(figures, latencies)


def commands_loads() -> list[CommandsLoad]:
    """Return all that fit into memory."""
    loads = [CommandsLoad(c, p, size) for size in SIZES for p in PIPELINES for c in CONNECTIONS]
    return [load for load in loads if load.connections * load.pipeline * load.size <= _MOST_BYTES]


def benchmark(port: int, command: str, load: CommandsLoad) -> tuple[Figures, list[tuple[float, float]]]:
    """Run redis-benchmark and return its figures and its distribution of latencies.

    Raises:
        RuntimeError: it failed.
        MissingProgramError: it is not installed.
    """
    options = {"-p": port, "-c": load.connections, "-P": load.pipeline, "-d": load.size, "-n": load.requests}
    command_line = [program("redis-benchmark"), "-t", command, "--precision", "3"]
    command_line += [str(part) for pair in options.items() for part in pair]
    run = subprocess.run(command_line, capture_output=True, text=True, check=False)
    if run.returncode or "throughput summary" not in run.stdout:
        raise RuntimeError(f"{' '.join(command_line)}: {run.stdout[-500:]} {run.stderr}")
    return read_benchmark(run.stdout)


def read_benchmark(output: str) -> tuple[Figures, list[tuple[float, float]]]:
    """Read what redis-benchmark (6.2 or later) prints about one command.

    Returns:
        figures: `per_second`, `p50_ms`, `p99_ms`, `p99.9_ms`.
        latencies: pairs of a share and milliseconds.
    """
    rate = re.search(r"throughput summary: ([\d.]+) requests per second", output)
    distribution = output.partition("Latency by percentile")[2].partition("Cumulative distribution")[0]
    lines = re.findall(r"([\d.]+)% <= ([\d.]+) milliseconds", distribution)
    latencies = [(float(share) / 100, float(milliseconds)) for share, milliseconds in lines]
    assert rate, output
    assert latencies, output
    p50, p99 = (float(found) for found in _summary(output))
    p999 = next(milliseconds for share, milliseconds in latencies if share >= 0.999)
    return {"per_second": float(rate[1]), "p50_ms": p50, "p99_ms": p99, "p99.9_ms": p999}, latencies


def _summary(output: str) -> tuple[str, str]:
    """Return the p50 and p99 of the columns avg, min, p50, p95, p99, max."""
    values = output.partition("latency summary (msec):")[2].split()[6:12]
    return values[2], values[4]


@dataclass(frozen=True, slots=True)
class OneConnectionLoad:
    """GETs on one connection, each timed by itself: redis-benchmark tells latencies in steps of 8 µs only."""

    requests: int = 15_000
    warm_up: int = 2_000
    name: str = "one-connection"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it."""
        with contestant.server.client() as client:
            client.set(_KEY, b"x" * 64)
        command = b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(_KEY), _KEY)
        with socket.create_connection(("127.0.0.1", contestant.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = []
            for _ in range(self.warm_up + self.requests):
                began = time.perf_counter_ns()
                connection.sendall(command)
                reply = connection.recv(256)
                times.append(time.perf_counter_ns() - began)
                assert len(reply) == 71, reply
        times = sorted(times[self.warm_up :])
        picked = {share: times[min(int(share * len(times)), len(times) - 1)] / 1e6 for share in _SHARES}
        figures = {"get_p50_ms": picked[0.5], "get_p99_ms": picked[0.99], "get_p99.9_ms": picked[0.999]}
        return Measurement(figures, list(picked.items()))


@dataclass(frozen=True, slots=True)
class UnseenLoad:
    """EVALSHAs on one connection, one after the other, of a script that Redis knows and the proxy has never seen."""

    requests: int = 60_000
    name: str = "unseen"

    def measure(self, contestant: Contestant) -> Measurement:
        """Apply it. The kernel tells CPU time in steps of 10 ms, so it takes many to tell what one costs."""
        with contestant.server.client() as client:
            sha = client.script_load("return redis.call('EXISTS', KEYS[1])")
        arguments = (
            b"EVALSHA",
            str(sha).encode(),
            b"2",
            b"asynq:{default}:t:1",
            b"asynq:{default}:pending",
            b"message",
        )
        command = b"*%d\r\n" % len(arguments) + b"".join(b"$%d\r\n%s\r\n" % (len(each), each) for each in arguments)
        with socket.create_connection(("127.0.0.1", contestant.port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            before = cpu(*contestant.processes)
            for _ in range(self.requests):
                connection.sendall(command)
                reply = connection.recv(64)
                assert reply == b":0\r\n", reply
        if not contestant.processes:
            return Measurement({})
        used = cpu(*contestant.processes) - before
        user, system = (seconds / self.requests * 1e6 for seconds in (used.user, used.system))
        return Measurement({"proxy_user_us_per_command": user, "proxy_system_us_per_command": system})


_SHARES = (*(share / 100 for share in range(100)), 0.995, 0.999, 0.9995, 0.9999, 1.0)
