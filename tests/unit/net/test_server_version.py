"""A server that is too old says so itself, or counts as new enough."""

import pytest
from redis.exceptions import ResponseError

from asynq_ttl.net.server_version import ServerTooOldError, is_unknown, refuse_old


@pytest.mark.parametrize("version", ["5.0.14", "4.0.9", "2.8.24", "5.9.104-rc1"])
def test_an_old_server_is_told_what_is_needed_and_why(version: str) -> None:
    """In one line."""
    with pytest.raises(ServerTooOldError) as caught:
        refuse_old(f"# Server\r\nredis_version:{version}\r\nrun_id:1\r\n".encode())
    assert str(caught.value).startswith(
        f"the server is Redis {version}; asynq-ttl needs Redis 6.2 or later, or Valkey: "
    )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "info", [b"redis_version:6.2.0\r\n", "redis_version:7.0.15", b"", None, b"valkey_version:9.1.2"]
)
def test_others_pass(info: object) -> None:
    """Somebody may have renamed HELLO."""
    refuse_old(info)


@pytest.mark.parametrize(
    ("said", "unknown"),
    [
        ("unknown command `HELLO`, with args beginning with: ", True),
        ("unknown command 'HELLO', with args beginning with: '3' ", True),
        ("ERR unknown command 'x'", True),
        ("unknown subcommand 'SETINFO'. Try CLIENT HELP.", False),
        ("this user has no permissions to run the 'get' command", False),
    ],
)
def test_what_a_server_says_of_a_command_it_does_not_know(said: str, unknown: bool) -> None:
    """Redis 4 to 7, and Valkey."""
    assert is_unknown(ResponseError(said)) is unknown
