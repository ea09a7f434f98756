"""Which servers are too old, and how a connection of our own finds that out.

A server that does not know `HELLO` is one before 6.0, unless somebody has renamed the command: then `INFO` tells. Where
that may not be asked either, the server counts as new enough.
"""

import re

from redis.exceptions import (
    ConnectionError,  # noqa: A004 - redis-py's
    ResponseError,
)

NEEDED = (6, 2)
"""The first version that asynq-ttl is tested with."""

_WITH_HELLO = (6, 0)
_VERSION = re.compile(r"^redis_version:(\d+)\.(\d+)(\S*)", re.MULTILINE)


class ServerTooOldError(ConnectionError):
    """The server is too old; the message says which version is needed, and why."""


def is_unknown(error: ResponseError) -> bool:
    """Say whether a server does not know the command that it was asked: it is too old, or the command was renamed."""
    return str(error).lower().startswith(("unknown command", "err unknown command"))


def refuse_old(info: object) -> None:
    """Refuse a server that does not know `HELLO` if it says that it is too old.

    Args:
        info: its answer to `INFO server`.

    Raises:
        ServerTooOldError: it is.
    """
    text = info.decode(errors="replace") if isinstance(info, bytes) else str(info)
    found = _VERSION.search(text)
    if found is not None and (int(found[1]), int(found[2])) < _WITH_HELLO:
        version, needed = f"{found[1]}.{found[2]}{found[3]}", ".".join(map(str, NEEDED))
        raise ServerTooOldError(
            f"the server is Redis {version}; asynq-ttl needs Redis {needed} or later, or Valkey: it is tested with no "
            "older one, and before 6.0 there is neither HELLO nor ACL"
        )
