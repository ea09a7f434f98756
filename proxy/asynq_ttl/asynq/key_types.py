"""Which type of key Asynq has at each place of its grammar. Pure text, as `keys` is.

Invariant: nothing is said of a place that is not Asynq's; there anything may be.
"""

from asynq_ttl.asynq.keys import queue_of_key, queue_prefix

_OF_QUEUE = {
    b"pending": b"list",
    b"active": b"list",
    b"scheduled": b"zset",
    b"retry": b"zset",
    b"archived": b"zset",
    b"completed": b"zset",
    b"lease": b"zset",
    b"deadlines": b"zset",
    b"aggregation_sets": b"zset",
    b"groups": b"set",
    b"paused": b"string",
    b"processed": b"string",
    b"failed": b"string",
}
_OF_QUEUE_BY_START = (
    (b"t:", b"hash"),
    (b"g:", b"zset"),
    (b"unique:", b"string"),
    (b"processed:", b"string"),
    (b"failed:", b"string"),
)
_OF_ALL = {
    b"asynq:queues": b"set",
    b"asynq:servers": b"zset",
    b"asynq:workers": b"zset",
    b"asynq:schedulers": b"zset",
}
_OF_ALL_BY_START = (
    (b"asynq:servers:{", b"string"),
    (b"asynq:workers:{", b"hash"),
    (b"asynq:schedulers:{", b"list"),
    (b"asynq:scheduler_history:", b"zset"),
)


def type_at(key: bytes) -> bytes | None:
    """Return the type that Asynq has at a key, as Redis's TYPE names it; None where it has none there."""
    queue = queue_of_key(key)
    if queue is None:
        return _OF_ALL.get(key) or _by_start(_OF_ALL_BY_START, key)
    end = key[len(queue_prefix(queue)) :]
    return _OF_QUEUE.get(end) or _by_start(_OF_QUEUE_BY_START, end)


def _by_start(types: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes | None:
    return next((kind for start, kind in types if name.startswith(start)), None)
