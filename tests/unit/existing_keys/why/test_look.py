"""A database that cannot be asked is a sentence of the answer, not the end of it."""

import re

import pytest

from asynq_ttl.existing_keys.clients import DatabaseError
from asynq_ttl.existing_keys.needed_rights import Need
from asynq_ttl.existing_keys.why import look as looking
from asynq_ttl.existing_keys.why.look import look, not_looked
from asynq_ttl.net.address import parse_upstream
from support.scripted_database import NOW, ScriptedDatabase

UPSTREAM = parse_upstream("redis://127.0.0.1:1/0")


class _Empty(ScriptedDatabase):
    """A database whose queues cannot be told, with some members in their list."""

    def __init__(self, *members: bytes) -> None:
        super().__init__()
        self._members = members

    def open(self, *, changing: Need | None = None) -> list[str]:
        raise DatabaseError("is no Asynq database")

    def begin(self) -> None:
        """Be what the URL says."""

    def ask(self, key: bytes, command: str, *arguments: bytes | str | int) -> set[bytes]:
        assert (key, command, arguments) == (b"asynq:queues", "SMEMBERS", ())
        return set(self._members)

    def close(self) -> None:
        """Close nothing."""


def test_nobody_answers() -> None:
    """What is wrong, and where."""
    told = look(UPSTREAM, "q", b"a")
    assert (told.found, told.now, told.whole) == ((), 0, False)
    assert "redis://127.0.0.1:1/0 cannot be reached" in told.notes[0]
    assert re.search(r"[^.]\.$", told.notes[0])


def test_an_ambiguous_queue_is_not_looked_at() -> None:
    """Its keys can be read as those of another one."""
    told = look(UPSTREAM, "a}:b", b"a")
    assert not told.whole
    assert "Queue a}:b was not looked at" in told.notes[0]


def test_an_empty_database_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has nothing of the task; but one whose queues cannot be listed was not asked."""
    monkeypatch.setattr(looking, "database_of", lambda _: _Empty())
    told = look(UPSTREAM, "", b"a")
    assert (told.found, told.now, told.whole) == ((), NOW, True)
    assert "0 queues" in told.notes[0]
    monkeypatch.setattr(looking, "database_of", lambda _: _Empty(b"q"))
    assert look(UPSTREAM, "", b"a") == not_looked("Redis could not be asked: is no Asynq database.")


def test_something_else_where_the_queues_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said of it is what the database says, which names the key."""

    class Odd(_Empty):
        def open(self, *, changing: Need | None = None) -> list[str]:
            self.left_out.add_wrong(b"asynq:queues")
            raise DatabaseError("has asynq:queues of another type")

        def ask(self, key: bytes, command: str, *arguments: bytes | str | int) -> set[bytes]:
            raise AssertionError("Redis would refuse it")

    monkeypatch.setattr(looking, "database_of", lambda _: Odd())
    assert look(UPSTREAM, "", b"a") == not_looked("Redis could not be asked: has asynq:queues of another type.")
