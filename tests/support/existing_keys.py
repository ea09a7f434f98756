"""Existing keys for the tests of the tools: tasks put into Redis as Asynq leaves them, and the tools run on them."""

import json
import os
import signal
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from click.testing import CliRunner, Result
from redis import Redis

from asynq_ttl.cli.main import main
from support.prepared import launch
from support.servers import Server, wait_until
from support.task_message import encode_task

QUEUE = "asynq:{default}:"
DAY = 86_400


def now(client: "Redis") -> int:
    """Return Redis's time in seconds."""
    return int(client.time()[0])


def put(
    client: "Redis",
    name: str,
    state: str,
    score: int | None,
    *,
    task_type: str = "x",
    queue: str = "default",
    ttl: int = 0,
    lock: bool = False,
    **message: Any,
) -> None:
    """Put a task into Redis; without a score it is in no index.

    Args:
        client: a connection.
        name: its ID.
        state: its state, and the index it is in.
        score: its score there.
        task_type: its type.
        queue: its queue.
        ttl: seconds its key has to live; 0 for ever.
        lock: whether it holds a uniqueness lock.
        message: more of its message, see `encode_task`.
    """
    prefix = f"asynq:{{{queue}}}:"
    fields: dict[Any, Any] = {"msg": encode_task(task_type, name, queue, **message), "state": state}
    if lock:
        fields["unique_key"] = f"{prefix}unique:{name}"
        client.set(fields["unique_key"], name, ex=3600)
    client.hset(f"{prefix}t:{name}", mapping=fields)
    if ttl:
        client.expire(f"{prefix}t:{name}", ttl)
    if score is not None:
        client.zadd(f"{prefix}{state}", {name: score})
    client.sadd("asynq:queues", queue)


def members(client: "Redis", index: str, queue: str = "default") -> set[str]:
    """Return the IDs in an index."""
    found: Any = client.zrange(f"asynq:{{{queue}}}:{index}", 0, -1)
    return {name.decode() for name in found}


def tasks(client: "Redis", queue: str = "default") -> set[str]:
    """Return the IDs of a queue's task keys."""
    found: Any = client.keys(f"asynq:{{{queue}}}:t:*")
    return {name.decode().partition(":t:")[2] for name in found}


def ttl(client: "Redis", name: str, queue: str = "default") -> float:
    """Return the seconds a task's key has to live; -1 for ever, -2 where it is not there."""
    left = int(client.pttl(f"asynq:{{{queue}}}:t:{name}"))
    return left if left < 0 else left / 1000


def everything(client: "Redis") -> dict[bytes, tuple[Any, bool]]:
    """Return the content of every key, and whether it has a TTL."""
    keys: Any = client.keys("*")
    with client.pipeline() as pipeline:
        for key in keys:
            pipeline.dump(key)
            pipeline.pttl(key)
        found = pipeline.execute()
    return {key: (found[2 * number], found[2 * number + 1] >= 0) for number, key in enumerate(keys)}


def tool(*arguments: str | Path, policy: str | None = None, folder: Path | None = None) -> Result:
    """Run a command of asynq-ttl in this process.

    Args:
        arguments: the command line.
        policy: the text of a policy file for it.
        folder: where that is written.
    """
    line = [str(argument) for argument in arguments]
    if policy is not None:
        assert folder is not None
        file = folder / "policy.yaml"
        file.write_text(policy)
        line += ["--policy", str(file)]
    return CliRunner(env={"ASYNQ_TTL_RATE": "0"}).invoke(main, line)


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """Return the changes that a journal holds, without the numbers of their pages."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "page"} for line in lines if "page" in line]


def url(server: Server, database: int = 0) -> str:
    """Return the URL of a database."""
    return f"redis://127.0.0.1:{server.port}/{database}"


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file but for one that is incomplete."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def run_and_kill(line: list[Any], journal: Path, more_bytes: int) -> bool:
    """Run a tool until its journal has grown by so much, and kill it; return False once it came to its end."""
    before = journal.stat().st_size if journal.exists() else 0
    with TemporaryFile() as output:
        process = launch([str(word) for word in line], stdout=output, stderr=output, env=os.environ)

        def far_enough() -> bool:
            size = journal.stat().st_size if journal.exists() else 0
            return size > before + more_bytes or process.poll() is not None

        wait_until(far_enough, "the tool does nothing", 60)
        process.kill()
        status = process.wait()
        output.seek(0)
        assert status in (0, -signal.SIGKILL), output.read()
    # One that is killed on its way out has come to its end too: it cannot be gone on with.
    return not any("end" in json.loads(each) for each in whole_lines(journal))
