from collections.abc import Set as AbstractSet
from typing import Any

from asynq_ttl.events import Decision
from asynq_ttl.rewriting.remembered import Remembered

def recall(
    chunk: bytes,
    special: AbstractSet[bytes],
    untouched: dict[bytes, Any],
    polls: dict[bytes, bytes],
    endings: dict[bytes, Remembered],
    /,
) -> int | bytes | tuple[bytes, Decision] | tuple[list[bytes], int] | None: ...
