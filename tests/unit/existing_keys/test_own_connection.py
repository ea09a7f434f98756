"""A connection of the tools begins with what the server lets it say, and goes on without the rest."""

import pytest
from redis import ConnectionPool, Redis
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.exceptions import AuthenticationError

from asynq_ttl.existing_keys.own_connection import NAME, connection_class
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.net.server_version import ServerTooOldError
from support.old_redis import NO_SUCH_COMMAND, speaking


def client_at(port: int) -> "Redis":
    """Return a client whose connections begin as those of the tools do."""
    kind = connection_class(parse_upstream(f"redis://127.0.0.1:{port}/0"))
    return Redis.from_pool(ConnectionPool(port=port, connection_class=kind, protocol=2, retry=None))


def test_it_says_its_name() -> None:
    """So that a doctor knows it."""
    with speaking() as (port, said), client_at(port) as client:
        assert client.ping()
    assert f"CLIENT SETNAME {NAME}" in said


@pytest.mark.parametrize(
    "refusals",
    [
        {"CLIENT": b"-NOPERM this user has no permissions to run the 'client' command\r\n"},
        {"CLIENT": NO_SUCH_COMMAND},
        {"HELLO": NO_SUCH_COMMAND, "INFO": NO_SUCH_COMMAND},
        {"HELLO": NO_SUCH_COMMAND, "INFO": b"$22\r\nredis_version:7.0.15\r\n\r\n"},
    ],
)
def test_what_is_only_nice_to_have_is_done_without(refusals: dict[str, bytes]) -> None:
    """Its name, and asking for the version."""
    with speaking(refusals) as (port, _), client_at(port) as client:
        assert client.ping()


def test_an_old_server_is_refused() -> None:
    """It knows no HELLO, and says itself how old it is."""
    with (
        speaking({"HELLO": NO_SUCH_COMMAND, "INFO": b"$22\r\nredis_version:5.0.14\r\n\r\n"}) as (port, _),
        client_at(port) as client,
        pytest.raises(ServerTooOldError, match=r"Redis 5\.0\.14; asynq-ttl needs Redis 6\.2"),
    ):
        client.ping()


def test_a_login_that_is_asked_for_is_told() -> None:
    """It is not mistaken for something that is nice to have."""
    with (
        speaking({"HELLO": b"-NOAUTH HELLO must be called with the client already authenticated\r\n"}) as (port, _),
        client_at(port) as client,
        pytest.raises(AuthenticationError),
    ):
        client.ping()


def test_each_kind_of_address_has_its_connection() -> None:
    """TLS, a socket file, and behind Sentinels what their URL says."""
    assert issubclass(connection_class(parse_upstream("rediss://h:1/0")), SSLConnection)
    assert issubclass(connection_class(parse_upstream("unix:///tmp/x?db=1")), UnixDomainSocketConnection)
    assert issubclass(connection_class(parse_upstream("rediss+sentinel://h:1/m/0")), SSLConnection)
