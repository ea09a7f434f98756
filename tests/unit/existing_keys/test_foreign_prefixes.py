"""Tasks with another prefix than Asynq's are told from what only looks like them, in bounded work."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from asynq_ttl.existing_keys import foreign_prefixes
from asynq_ttl.existing_keys.foreign_prefixes import Prefixes, find, together
from support.scripted_database import ScriptedDatabase, task_of

TASK = {"msg": b"m", "state": b"pending"}


def database_of(*keys: bytes, tasks: bool = True) -> ScriptedDatabase:
    """Return a database with a task of Asynq's, and more keys."""
    database = ScriptedDatabase([task_of("pending")])
    database.more_keys = list(keys)
    if tasks:
        database.hashes = dict.fromkeys(keys, TASK)
    return database


def test_the_prefixes_of_forks() -> None:
    """The most frequent first; Asynq's own keys, and those of other places, are none."""
    keys = [b"b:{q}:t:%d" % number for number in range(3)]
    database = database_of(b"myapp:asynq:{q}:t:x", *keys, b"asynq:{}:t:y{z}:t:x", b"c:{q}:pending", b"d")
    assert find(database.client, lambda _: None) == Prefixes({"b:{": 3, "myapp:asynq:{": 1}, whole=True)


@pytest.mark.parametrize("fault", [None, ResponseError("WRONGTYPE"), NoPermissionError("NOPERM")])
def test_what_only_looks_like_a_task(fault: Exception | None) -> None:
    """Unless the user may not look into it."""
    database = database_of(b"myapp:{q}:t:x", tasks=False)
    if fault is not None:
        database.types[b"myapp:{q}:t:x"] = fault
    found = find(database.client, lambda _: None)
    assert list(found.seen) == (["myapp:{"] if isinstance(fault, NoPermissionError) else [])


def test_the_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it costs is asked for first; then it is said that not all was looked at."""
    monkeypatch.setattr(foreign_prefixes, "MOST_KEYS", 2_000)
    spent: list[int] = []
    database = database_of(*(b"p%d:{q}:t:x" % number for number in range(200)))
    found = find(database.client, spent.append)
    assert not found.whole
    assert len(found.seen) == 7
    assert spent == [1_000, 1_000]
    monkeypatch.setattr(foreign_prefixes, "MOST_KEYS", 100_000)
    assert len(find(database.client, spent.append).seen) == 100


def test_what_several_servers_have() -> None:
    """It is counted together; one that was not looked through makes the whole not whole."""
    found = together([Prefixes({"a": 1, "b": 2}, whole=True), Prefixes({"a": 5}, whole=False)])
    assert found == Prefixes({"a": 6, "b": 2}, whole=False)
    assert together([]) == Prefixes({}, whole=True)
