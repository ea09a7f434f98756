"""What servers say is told apart: a right to a command, to a key, to a database, and a command that is not there."""

import pytest
from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from asynq_ttl.existing_keys.refused import Refused, probe_key, refused_of


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("this user has no permissions to run the 'get' command or its subcommand", Refused(denied=("GET",))),
        ("this user has no permissions to run the 'get' command", Refused(denied=("GET",))),
        ("User monkey has no permissions to run the 'get' command", Refused(denied=("GET",))),
        ("this user has no permissions to access one of the keys used as arguments", Refused(keys=True)),
        ("No permissions to access a key", Refused(keys=True)),
        ("No permissions to access database", Refused(database=True)),
    ],
)
def test_a_right_that_is_missing(said: str, expected: Refused) -> None:
    """In the words of Redis 6.2, 7.0 and Valkey 9.1."""
    assert refused_of([("GET", NoPermissionError(said))]) == expected


def test_a_command_that_is_not_there() -> None:
    """It was renamed; whatever else comes back shows that the command may be run."""
    answers = [
        ("INFO", ResponseError("unknown command `INFO`, with args beginning with: ")),
        ("EVALSHA", NoScriptError("No matching script")),
        ("SET", ResponseError("READONLY You can't write against a read only replica.")),
        ("PING", True),
    ]
    found = refused_of(answers)
    assert found == Refused(unknown=("INFO",))
    assert str(found) == "the server does not know INFO"
    assert found.advice("asynq:*") == "take the rename-command of it away, or use Redis 6.2 or later"


def test_all_at_once_is_one_sentence() -> None:
    """With what grants it."""
    found = Refused(("GET", "SCRIPT|LOAD"), ("INFO",), keys=True, database=True)
    assert str(found) == (
        "the user in the URL may not run GET, SCRIPT LOAD, and the server does not know INFO, "
        "and the user in the URL has no right to the keys, and the user in the URL has no right to the database"
    )
    assert found.advice("asynq:*").startswith("give it +get +script|load ~asynq:* and the database; ")
    assert Refused(keys=True).advice("asynq:*") == "give it ~asynq:*"


def test_nothing_refused_is_false() -> None:
    """So it can be asked for."""
    assert not refused_of([("PING", True)])


def test_the_key_is_one_of_a_queue_that_the_user_may_have() -> None:
    """Where one is known."""
    assert probe_key(["mail"]) == b"asynq:{mail}:asynq-ttl-probe"
    assert probe_key(None) == b"asynq:{default}:asynq-ttl-probe"
