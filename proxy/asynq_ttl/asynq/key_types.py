"""Which type of key Asynq has at each place of its grammar. Pure text, as `keys` is.

Invariant: nothing is said of a place that is not Asynq's; there anything may be.
"""

from asynq_ttl.asynq.keys import queue_of_key, queue_prefix, text_of

OF_QUEUE = {
    "pending": b"list",
    "active": b"list",
    "scheduled": b"zset",
    "retry": b"zset",
    "archived": b"zset",
    "completed": b"zset",
    "lease": b"zset",
    "deadlines": b"zset",
    "aggregation_sets": b"zset",
    "groups": b"set",
    "paused": b"string",
    "processed": b"string",
    "failed": b"string",
}
"""By what follows the prefix of a queue: the places that a queue has once."""
_OF_QUEUE_BY_START = (
    (b"t:", b"hash"),
    (b"g:", b"zset"),
    (b"unique:", b"string"),
    (b"processed:", b"string"),
    (b"failed:", b"string"),
)
OF_ALL = {
    b"asynq:queues": b"set",
    b"asynq:servers": b"zset",
    b"asynq:workers": b"zset",
    b"asynq:schedulers": b"zset",
}
"""By the whole key: what there is once in a database."""
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
        return OF_ALL.get(key) or _by_start(_OF_ALL_BY_START, key)
    end = key[len(queue_prefix(queue)) :]
    return OF_QUEUE.get(text_of(end)) or _by_start(_OF_QUEUE_BY_START, end)


def _by_start(types: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes | None:
    return next((kind for start, kind in types if name.startswith(start)), None)
