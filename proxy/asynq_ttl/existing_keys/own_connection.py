"""How a connection of the tools begins: it has a name where that is allowed, and the server is not too old.

Invariant: what is only nice to have never ends a connection: its name, and asking for the version.
"""

from typing import Any

from redis.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ResponseError

from asynq_ttl.net.address import Upstream
from asynq_ttl.net.server_version import is_unknown, refuse_old

NAME = "asynq-ttl-tools"
"""What connections of the tools are called in `CLIENT LIST`."""


class _Beginning(AbstractConnection):
    """Says what a connection says first."""

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - redis-py's signature
        super().on_connect_check_health(check_health)
        try:
            self._ask("HELLO")
        except ResponseError as error:
            if is_unknown(error):
                self._refuse_old()
        try:
            self._ask("CLIENT", "SETNAME", NAME)
        except ResponseError:
            return  # nobody needs it

    def _refuse_old(self) -> None:
        try:
            info = self._ask("INFO", "server")
        except ResponseError:
            return  # it cannot be known
        refuse_old(info)

    def _ask(self, *words: str) -> Any:  # noqa: ANN401 - replies have any shape
        self.send_command(*words, check_health=False)  # type: ignore[no-untyped-call]
        return self.read_response()


class _Plain(_Beginning, Connection):
    """A connection without TLS."""


class _Tls(_Beginning, SSLConnection):
    """A connection with TLS."""


class _Unix(_Beginning, UnixDomainSocketConnection):
    """A connection to a socket file."""


def connection_class(upstream: Upstream) -> type[AbstractConnection]:
    """Return the class of a connection to a server."""
    if upstream.tls:
        return _Tls
    return _Unix if upstream.address.path and not upstream.sentinels else _Plain
