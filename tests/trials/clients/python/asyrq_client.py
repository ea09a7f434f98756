"""Asyrq: `asyrq_client.py HOST:PORT enqueue ID TYPE RETENTION MAX_RETRY` or `... work`.

Run by the Python of asyrq's own environment.
"""

import asyncio
import sys

import asyrq


class Quick(asyrq.Handler):  # type: ignore[misc]
    """Fails on the types of tasks that say so."""

    async def process_task(self, context: object, task: "asyrq.Task") -> None:
        """Do nothing else."""
        if task.type().startswith("fail"):
            raise ValueError("it fails")


async def work(redis: "asyrq.RedisClientOpt") -> None:
    """Work until SIGINT."""
    config = asyrq.Config(
        concurrency=2,
        log_level=asyrq.LogLevel.WARN,
        logger=asyrq.DefaultLogger(level=asyrq.LogLevel.WARN),
        shutdown_timeout=1,
        delayed_task_check_interval=0.1,
        task_check_interval=0.05,
        janitor_interval=1,
    )
    await asyrq.Server(redis, config).run(Quick())


async def enqueue(redis: "asyrq.RedisClientOpt", name: str, kind: str, retention: str, max_retry: str) -> str:
    """Enqueue one task and return its ID."""
    client = asyrq.Client(redis)
    options = (asyrq.TaskID(name), asyrq.Retention(int(retention)), asyrq.MaxRetry(int(max_retry)))
    info = await client.enqueue(asyrq.Task(kind, b"{}"), *options)
    await client.close()
    return str(info.id)


async def main(address: str, operation: str, *words: str) -> None:
    """Do one operation and print what it answers."""
    redis = asyrq.RedisClientOpt(addr=address)
    if operation == "enqueue":
        print(await enqueue(redis, *words))  # noqa: T201 - the answer
    else:
        await work(redis)
        print("stopped")  # noqa: T201 - the answer


asyncio.run(main(*sys.argv[1:]))
