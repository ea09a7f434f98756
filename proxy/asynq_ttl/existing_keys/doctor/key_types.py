"""Whether what stands at Asynq's fixed places has the types that Asynq gives it. Changes nothing.

A program that writes another type there makes Asynq fail at that place, and keeps the sweeper from it.
"""

from collections.abc import Iterator
from itertools import islice

from redis.exceptions import NoPermissionError

from asynq_ttl.asynq.key_types import OF_ALL, OF_QUEUE
from asynq_ttl.asynq.keys import index_key, text_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity

_QUEUES_AT_ONCE = 100
_MOST_EXAMPLES = 10


def check(database: Database, queues: list[str]) -> Iterator[Finding]:
    """Say whether all keys at fixed places have their types.

    Args:
        database: where.
        queues: the names of the queues.
    """
    try:
        wrong = list(_wrong(database, queues))
    except NoPermissionError:
        yield Finding("key-types", Severity.FINE, "not checked: the user may not run TYPE", "", "give it +type")
        return
    if not wrong:
        yield Finding("key-types", Severity.FINE, "indexes and lists have the types that Asynq gives them", "", "")
        return
    yield Finding(
        "key-types",
        Severity.WARNING,
        "keys are of another type than Asynq's",
        "Asynq fails at such a key, and the sweeper cannot do what concerns it; the rest is swept",
        "find out what wrote them, then delete or rename them",
        count=len(wrong),
        examples=wrong[:_MOST_EXAMPLES],
    )


def _wrong(database: Database, queues: list[str]) -> Iterator[str]:
    """Yield each key that has another type than it should have, and both types, in words."""
    rest = iter(queues)
    first = list(OF_ALL.items())
    while some := list(islice(rest, _QUEUES_AT_ONCE)):
        keys = first + [(index_key(queue, place), wanted) for queue in some for place, wanted in OF_QUEUE.items()]
        first = []
        database.pace.spend(len(keys))
        found = database.types_of([key for key, _ in keys])
        for (key, wanted), kind in zip(keys, found, strict=True):
            if kind not in (wanted, b"none"):
                yield f"{text_of(key)} is a {kind.decode()}, not a {wanted.decode()}"
