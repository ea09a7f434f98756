"""TCP keepalive: a peer that has vanished without closing its connection is noticed, as Redis does with its clients.

Source of the semantics: `tcp-keepalive` of redis.conf.
"""

import socket
from typing import Any

DEFAULT_SECONDS = 60
_PROBES = 3


def keep_alive(connection: Any, seconds: int) -> None:  # noqa: ANN401 - a socket, or uvloop's stand-in for one
    """Let the kernel probe a silent peer, and close the connection if it does not answer.

    What is set on a listening socket holds for the connections that it accepts.

    Args:
        connection: a TCP socket; one of another kind is left as it is.
        seconds: how long the peer is silent before the first of three probes, which are a third of that apart; 0 for
            no probes.
    """
    if not seconds or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # macOS has another name for the first.
    for name, value in (
        ("TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE", seconds),
        ("TCP_KEEPINTVL", max(seconds // _PROBES, 1)),
        ("TCP_KEEPCNT", _PROBES),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
