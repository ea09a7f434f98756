from collections.abc import Set as AbstractSet
from typing import Any

def recall(
    chunk: bytes, special: AbstractSet[bytes], untouched: dict[bytes, Any], polls: dict[bytes, bytes], /
) -> int | bytes | tuple[list[bytes], int] | None: ...
