"""The Asynq load: real clients and a real worker, from the Go harness, through one contestant.

Tasks are enqueued by ten producers, then a worker processes them all: as two phases, so that the rate of either is its
own, or both at the same time. A share is archived, a share of those is run again, a share is retained when done.
"""

import json
from dataclasses import dataclass
from typing import Any

from contestants import Contestant
from processes import cpu_seconds, memory

from asynq import Harness

PRODUCERS, CONCURRENCY = 10, 10
ARCHIVE_SHARE, RETAIN_SHARE, RERUN_SHARE = 0.1, 0.3, 0.2
_WARM_UP_TASKS = 500
# What clients send under this load, but for a few dozen commands at the start. What scripts do inside is not counted.
_COUNTED = ("cmdstat_evalsha", "cmdstat_eval")


@dataclass(frozen=True, slots=True)
class AsynqLoad:
    """How much of it, and whether enqueueing and processing overlap."""

    tasks: int
    together: bool = False

    @property
    def name(self) -> str:
        """What the load is called in results."""
        return "asynq-together" if self.together else "asynq"

    def run(self, contestant: Contestant, harness: Harness) -> dict[str, float]:
        """Apply the load and return the figures, by name.

        Args:
            contestant: what it goes through.
            harness: real Asynq.

        Raises:
            RuntimeError: a task was lost, or the load was not done in time.
        """
        self._apply(contestant, harness, _WARM_UP_TASKS)
        with contestant.server.client() as client:
            client.flushall()
            before = _Usage.of(contestant)
            report = self._apply(contestant, harness, self.tasks)
            used = _Usage.of(contestant).since(before)
        figures = {
            "tasks_per_second": report["tasks_per_second"],
            "enqueued_per_second": report["enqueue_per_second"],
            **{f"enqueue_{name}_ms": value for name, value in report["enqueue_ms"].items() if name != "max"},
            "redis_cpu_us_per_command": used.server / used.commands * 1e6,
        }
        if contestant.process is not None:
            figures["proxy_cpu_us_per_command"] = used.proxy / used.commands * 1e6
            figures["proxy_peak_rss_mb"] = memory(contestant.process).peak / 1024
        return figures

    def _apply(self, contestant: Contestant, harness: Harness, tasks: int) -> dict[str, Any]:
        shares = ["-archive-share", ARCHIVE_SHARE, "-retain-share", RETAIN_SHARE, "-rerun-share", RERUN_SHARE]
        options = ["-tasks", tasks, "-producers", PRODUCERS, "-concurrency", CONCURRENCY, "-timeout", "3m", *shares]
        if not self.together:
            options.append("-fill-first")
        process = harness.start("load", f"127.0.0.1:{contestant.port}", *map(str, options))
        output, errors = process.communicate()
        report = json.loads(output or "{}")
        if process.returncode or report["timed_out"] or report["enqueued"] != tasks or report["outcomes"]["other"]:
            raise RuntimeError(f"the load through {contestant.name} went wrong: {output} {errors}")
        return dict(report)


@dataclass(frozen=True, slots=True)
class _Usage:
    """CPU seconds of proxy and server, and commands."""

    proxy: float
    server: float
    commands: int

    @classmethod
    def of(cls, contestant: Contestant) -> "_Usage":
        proxy = 0.0 if contestant.process is None else cpu_seconds(contestant.process)
        with contestant.server.client() as client:
            stats = client.info("commandstats")
        commands = sum(stats[name]["calls"] for name in _COUNTED if name in stats)
        return cls(proxy, cpu_seconds(contestant.server.process.pid), commands)

    def since(self, before: "_Usage") -> "_Usage":
        return _Usage(self.proxy - before.proxy, self.server - before.server, self.commands - before.commands)
