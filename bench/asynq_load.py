"""The Asynq load: real clients and a real worker, from the Go harness, through one contestant.

Tasks are enqueued by ten producers, then a worker processes them all: as two phases, so that the rate of either is its
own, or both at the same time. A share is archived, a share of those is run again, a share is retained when done.
"""

import json
from dataclasses import dataclass
from typing import Any

from comparison import Figures, Measurement
from contestants import Contestant
from processes import Cpu, cpu, memory

from asynq_ttl.demo.harness import build_harness
from support.asynq import Harness

PRODUCERS, CONCURRENCY = 10, 10
ARCHIVE_SHARE, RETAIN_SHARE, RERUN_SHARE = 0.1, 0.3, 0.2
SHARES = (25, 50, 90)
"""In percent of the highest rate of a proxy: the rates at which latencies are measured."""
_WARM_UP_TASKS = 500
# What clients send under this load, but for a few dozen commands at the start. What scripts do inside is not counted.
_COUNTED = ("cmdstat_evalsha", "cmdstat_eval")


@dataclass(frozen=True, slots=True)
class Run:
    """One application of the load: the harness's report (`loadReport` in load.go) and what it cost."""

    report: dict[str, Any]
    proxy: Cpu
    server: Cpu
    commands: int


@dataclass(frozen=True, slots=True)
class AsynqLoad:
    """What is enqueued and how.

    Attributes:
        tasks: how many.
        together: whether enqueueing and processing overlap.
        known: whether Redis knows all scripts before.
        rate: tasks to enqueue per second; 0 is as fast as possible. With a rate, latencies count from when a task was
            due, so that each that waits for another counts.
        percent: which share of a proxy's highest rate that is, for the name.
    """

    tasks: int
    together: bool = False
    known: bool = False
    rate: float = 0.0
    percent: int = 0

    @property
    def name(self) -> str:
        """What the load is called in results."""
        if self.rate:
            return f"asynq-{self.percent}%"
        return "asynq-together" if self.together else "asynq-known" if self.known else "asynq"

    def measure(self, contestant: Contestant) -> Measurement:
        """Warm up, then apply it."""
        with Harness(build_harness()) as harness:
            self.warm_up(contestant, harness)
            run = self.run(contestant, harness)
        found = {
            "tasks_per_second": run.report["tasks_per_second"],
            "enqueued_per_second": run.report["enqueue_per_second"],
            **_percentiles("enqueue", run.report["enqueue_ms"]),
            **(_percentiles("task", run.report["task_ms"]) if self.rate else {}),
            "redis_cpu_us_per_command": run.server.total / run.commands * 1e6,
        }
        if contestant.processes:
            found["proxy_cpu_us_per_command"] = run.proxy.total / run.commands * 1e6
            found["proxy_peak_rss_mb"] = memory(*contestant.processes).peak / 1024
        return Measurement(found)

    def warm_up(self, contestant: Contestant, harness: Harness) -> None:
        """Let scripts be learnt and connections be made once; past the proxy first, where Redis is to know them."""
        if self.known:
            self._apply(contestant, harness, _WARM_UP_TASKS, past=True)
        self._apply(contestant, harness, _WARM_UP_TASKS)

    def run(self, contestant: Contestant, harness: Harness) -> Run:
        """Empty Redis and apply the load.

        Raises:
            RuntimeError: a task was lost, or the load was not done in time.
        """
        with contestant.server.client() as client:
            client.flushall()
            proxy, server = _used(contestant)
            commands = _commands(client.info("commandstats"))
            report = self._apply(contestant, harness, self.tasks)
            commands = _commands(client.info("commandstats")) - commands
            proxy_after, server_after = _used(contestant)
        return Run(report, proxy_after - proxy, server_after - server, commands)

    def _apply(self, contestant: Contestant, harness: Harness, tasks: int, *, past: bool = False) -> dict[str, Any]:
        shares = ["-archive-share", ARCHIVE_SHARE, "-retain-share", RETAIN_SHARE, "-rerun-share", RERUN_SHARE]
        options = ["-tasks", tasks, "-producers", PRODUCERS, "-concurrency", CONCURRENCY, "-timeout", "3m", *shares]
        if self.rate:
            options += ["-rate", self.rate]
        if not self.together:
            options.append("-fill-first")
        port = contestant.server.port if past else contestant.port
        process = harness.start("load", f"127.0.0.1:{port}", *map(str, options))
        output, errors = process.communicate()
        report = json.loads(output or "{}")
        if process.returncode or report["timed_out"] or report["enqueued"] != tasks or report["outcomes"]["other"]:
            raise RuntimeError(f"the load through {contestant.name} went wrong: {output} {errors}")
        return dict(report)


def _percentiles(what: str, milliseconds: dict[str, float]) -> Figures:
    return {f"{what}_{name}_ms": value for name, value in milliseconds.items() if name != "max"}


def _used(contestant: Contestant) -> tuple[Cpu, Cpu]:
    return cpu(*contestant.processes), cpu(contestant.server.process.pid)


def _commands(stats: Any) -> int:
    return sum(stats[name]["calls"] for name in _COUNTED if name in stats)
