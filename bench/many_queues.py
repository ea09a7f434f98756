"""What a queue per tenant costs the tools: queues with one archived task each, and what `audit` and `backfill` take.

    python bench/many_queues.py --queues 5000

Fills a Redis with queues of one archived task, then runs `audit`, `backfill` (dry, and with --apply), and `export`, at
the default rate unless `--rate` says otherwise. Prints one JSON object as `tools.py` does.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from redis import Redis
from tools import measure

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.servers import start_redis
from support.task_message import encode_task

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: 1d}}]"
BATCH = 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queues", type=int, default=5000)
    parser.add_argument("--rate", default="30000", help="what the tools are told")
    options = parser.parse_args()
    with start_redis() as server, server.client() as client, tempfile.TemporaryDirectory() as folder:
        fill(client, options.queues)
        policy = Path(folder) / "policy.yaml"
        policy.write_text(POLICY)
        common = ["--upstream", server.url, "--rate", options.rate]
        backfill = ["backfill", *common, "--policy", str(policy), "--orphans", "ttl", "--show", "0"]
        steps = {
            "audit": measure(client, "audit", *common, "--policy", str(policy)),
            "export": measure(client, "export", *common, "--output", f"{folder}/tasks.jsonl"),
            "backfill (dry)": measure(client, *backfill),
            "backfill --apply": measure(client, *backfill, "--apply", "--journal", f"{folder}/journal"),
        }
    sys.stdout.write(json.dumps({"queues": options.queues, "steps": steps}, indent=2) + "\n")


def fill(client: "Redis", queues: int) -> None:
    """Make queues of one archived task each."""
    clock: Any = client.time()
    for first in range(0, queues, BATCH):
        pipeline = client.pipeline(transaction=False)
        for number in range(first, min(first + BATCH, queues)):
            queue, task_id = f"tenant-{number}", f"task-{number}"
            prefix = f"asynq:{{{queue}}}:"
            fields: dict[Any, Any] = {"msg": encode_task("mail:send", task_id, queue), "state": "archived"}
            pipeline.hset(f"{prefix}t:{task_id}", mapping=fields)
            pipeline.zadd(f"{prefix}archived", {task_id: clock[0] - 3600})
            pipeline.sadd("asynq:queues", queue)
        pipeline.execute()


if __name__ == "__main__":
    main()
