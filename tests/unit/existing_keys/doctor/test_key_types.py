"""What stands at Asynq's fixed places is compared with what Asynq puts there."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from asynq_ttl.asynq.key_types import OF_QUEUE
from asynq_ttl.existing_keys.doctor import key_types
from asynq_ttl.existing_keys.findings import Finding, Severity
from support.scripted_database import ScriptedDatabase


def check(types: dict[bytes, bytes | Exception], *queues: str) -> Finding:
    """Return what is found where keys are of some types."""
    database = ScriptedDatabase()
    database.types = types
    (finding,) = key_types.check(database, list(queues))
    return finding


def test_keys_of_their_types_and_places_without_a_key_are_fine() -> None:
    """As in a queue that was just made."""
    sound: dict[bytes, bytes | Exception] = {b"asynq:{q}:" + name.encode(): kind for name, kind in OF_QUEUE.items()}
    assert check(sound, "q", "empty").severity is Severity.FINE


def test_each_key_of_another_type_is_named_with_both_types() -> None:
    """However many queues there are."""
    queues = [f"q{number}" for number in range(250)]
    wrong = {b"asynq:{q%d}:retry" % number: b"hash" for number in (0, 120, 249)}
    found = check({b"asynq:servers": b"list", **wrong}, *queues)
    assert (found.severity, found.count) == (Severity.WARNING, 4)
    assert found.examples[0] == "asynq:servers is a list, not a zset"
    assert found.examples[-1] == "asynq:{q249}:retry is a hash, not a zset"


def test_without_the_right_to_ask_it_says_so() -> None:
    """Any other refusal is not its affair."""
    assert "may not run TYPE" in check({b"asynq:{q}:retry": NoPermissionError("no")}, "q").what
    with pytest.raises(ResponseError):
        check({b"asynq:{q}:retry": ResponseError("no")}, "q")
