"""Which connections are kept alive, and how."""

import socket

import pytest

from asynq_ttl.net.keepalive import keep_alive


def options(connection: socket.socket) -> list[int]:
    """Return what is set: whether, and after how many seconds, how far apart, how often."""
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    of_tcp = [connection.getsockopt(socket.IPPROTO_TCP, name) for name in names]
    return [connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), *of_tcp]


@pytest.mark.parametrize(("seconds", "expected"), [(60, [1, 60, 20, 3]), (1, [1, 1, 1, 3])])
def test_a_silent_peer_is_asked_three_times(seconds: int, expected: list[int]) -> None:
    """A third of the time apart; what a listening socket accepts has it too."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        keep_alive(server, seconds)
        with socket.create_connection(server.getsockname()), server.accept()[0] as accepted:
            assert options(accepted) == expected


def test_zero_is_never() -> None:
    """Nothing is set."""
    with socket.socket() as connection:
        keep_alive(connection, 0)
        assert options(connection)[0] == 0


def test_a_unix_socket_is_left_as_it_is() -> None:
    """Its peer cannot vanish."""
    with socket.socket(socket.AF_UNIX) as connection:
        keep_alive(connection, 60)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
