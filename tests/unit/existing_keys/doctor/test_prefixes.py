import pytest

from asynq_ttl.existing_keys import foreign_prefixes
from asynq_ttl.existing_keys.doctor import prefixes
from asynq_ttl.existing_keys.findings import Finding, Severity
from support.scripted_database import ScriptedDatabase, task_of

KEY = b"myapp:asynq:{q}:t:x"


def check(*keys: bytes) -> Finding:
    """Return what is found where there are such tasks, besides those of Asynq."""
    database = ScriptedDatabase([task_of("pending", name=f"t{number}") for number in range(10)])
    database.more_keys = list(keys)
    database.hashes = {key: {"msg": b"m", "state": b"pending"} for key in keys}
    (finding,) = prefixes.check(database)
    return finding


def test_a_prefix_of_its_own_is_named() -> None:
    """With how many keys have it."""
    found = check(KEY, KEY + b"y")
    assert (found.severity, found.count, found.examples) == (Severity.WARNING, 2, ["myapp:asynq:{: 2"])
    assert "asynq:{" in found.why


def test_without_one_all_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As far as was looked."""
    assert check().severity is Severity.FINE
    assert "looked at" not in check().what
    monkeypatch.setattr(foreign_prefixes, "MOST_KEYS", 1_000)
    assert "looked at" in check().what
