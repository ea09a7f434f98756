"""Finds tasks of forks of Asynq whose keys have a prefix of their own, such as `myapp:asynq:{q}:t:…`. Changes nothing.

Neither the sidecar nor the tools handle such tasks; here they are only found, so that it can be said.

Invariants:

* The work is bounded: it looks at `MOST_KEYS` keys, and into one key of each of `_MOST_PREFIXES` prefixes.
* What only looks like a task does not count: the key has to be a hash with the fields of Asynq's tasks. Where the user
  may not look into it, its name alone decides.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from asynq_ttl.asynq.keys import LIKE_TASK_PATTERN, foreign_prefix

MOST_KEYS = 100_000
"""So many keys are looked at, more or less: SCAN counts in steps."""
_STEP = 1_000
_MOST_PREFIXES = 100


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What was found.

    Attributes:
        seen: what keys begin with, up to the hash tag, and how many were seen that do; the most frequent first.
        whole: whether all keys of the database were looked at.
    """

    seen: dict[str, int]
    whole: bool


def together(found: Sequence[Prefixes]) -> Prefixes:
    """Return what was found in several places."""
    seen = Counter[str]()
    for each in found:
        seen.update(each.seen)
    return Prefixes(dict(seen.most_common()), whole=all(each.whole for each in found))


def find(client: "Redis", spend: Callable[[int], None]) -> Prefixes:
    """Look for them.

    Args:
        client: a connection to the database.
        spend: waits until so many more keys may be looked at.

    Raises:
        ResponseError: the user may not SCAN.
    """
    seen, first = Counter[str](), dict[str, bytes]()
    cursor, looked = 0, 0
    while True:
        spend(_STEP)
        answer: Any = client.scan(cursor, match=LIKE_TASK_PATTERN, count=_STEP)
        cursor, looked = int(answer[0]), looked + _STEP
        for key in answer[1]:
            prefix = foreign_prefix(key)
            if prefix and (prefix in seen or len(seen) < _MOST_PREFIXES):
                seen[prefix] += 1
                first.setdefault(prefix, key)
        if not cursor or looked >= MOST_KEYS:
            break
    named = {prefix: count for prefix, count in seen.most_common() if _is_task(client, first[prefix])}
    return Prefixes(named, whole=not cursor)


def _is_task(client: "Redis", key: bytes) -> bool:
    try:
        fields: Any = client.hmget(key, ["msg", "state"])
    except NoPermissionError:
        return True
    except ResponseError:
        return False
    return None not in fields
