"""What an idle sidecar and its Redis cost where each of many queues has one archived task."""

import time
from typing import Any, NamedTuple

from contestants import start, start_server
from processes import cpu

from asynq_ttl.asynq.keys import index_key, task_prefix
from support.servers import Server

_WARM_UP_SECONDS = 30.0
_PER_CALL = 1_000
_WEEK = 604_800


class QueuesCost(NamedTuple):
    """What was measured; percents are of one core."""

    queues: int
    sidecar_percent: float
    redis_percent: float
    redis_alone_percent: float


def queues_cost(kind: str, queues: int, seconds: float, *, bogus: bool = False) -> QueuesCost:
    """Fill a Redis with queues, and measure it alone and beside a sidecar that nobody uses.

    Args:
        kind: the server.
        queues: how many.
        seconds: for how long each is measured.
        bogus: whether `asynq:queues` only names them, so that none of them has a key.
    """
    with start_server(kind) as server:
        _fill(server, queues, bogus=bogus)
        (alone,) = _shares(seconds, server.process.pid)
        with start("asynq-ttl", server) as sidecar:
            time.sleep(_WARM_UP_SECONDS)
            redis, proxy = _shares(seconds, server.process.pid, *sidecar.processes)
    return QueuesCost(queues, proxy, redis, alone)


def _fill(server: Server, queues: int, *, bogus: bool) -> None:
    now = time.time()
    with server.client() as client:
        for first in range(0, queues, _PER_CALL):
            pipeline: Any = client.pipeline(transaction=False)
            for number in range(first, min(first + _PER_CALL, queues)):
                name, age = f"tenant-{number:06}", int(number / queues * _WEEK)
                pipeline.sadd("asynq:queues", name)
                if not bogus:
                    key = task_prefix(name) + b"00000000-0000-0000-0000-000000000000"
                    pipeline.hset(key, mapping={"msg": b"\n\x04task\x12d" + b"x" * 100, "state": "archived"})
                    pipeline.expire(key, _WEEK - age + 120)
                    pipeline.zadd(index_key(name, "archived"), {key.rpartition(b":")[2]: now - age})
            pipeline.execute()


def _shares(seconds: float, *processes: int) -> list[float]:
    """Return which percent of a core each process uses for some seconds."""
    before, started = [cpu(process) for process in processes], time.monotonic()
    time.sleep(seconds)
    elapsed = time.monotonic() - started
    used = [(cpu(process) - earlier).total for process, earlier in zip(processes, before, strict=True)]
    return [round(share / elapsed * 100, 2) for share in used]
