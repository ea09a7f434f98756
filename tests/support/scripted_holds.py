"""What `hold` and `release` ask for, in unit tests of the two commands."""

from typing import Any

import pytest

from asynq_ttl.existing_keys import holds
from asynq_ttl.existing_keys.holds import Told
from support.scripted_database import ScriptedDatabase


def record(monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[Any, ...]]:
    """Replace a function of `holds` by one that does nothing; return what it is asked for. It cannot do `b`."""
    asked: list[tuple[Any, ...]] = []

    def done(_database: ScriptedDatabase, queue: str, ids: tuple[bytes, ...], *more: Any) -> list[Told]:
        asked.append((queue, ids, *more))
        return [Told(each, "done", done=each != b"b") for each in ids]

    monkeypatch.setattr(holds, name, done)
    return asked
