"""Keeps secrets of the environment out of what libraries log.

Our own lines name no secret. A library may repeat the URL or the header that it cannot use, whole or a piece of it.

Invariant: a line of a library, and its traceback, is left out if any piece of a secret of the environment is in it. The
line in its place has the name of the library.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from asynq_ttl.asynq.keys import printable

# A variable whose whole value is a secret, and one whose value is a URL that may hold one.
_WHOLE = re.compile(r"OTEL_EXPORTER_OTLP_(?:\w+_)?HEADERS|ASYNQ_TTL_ADMIN_TOKEN")
_URL = re.compile(r"OTEL_EXPORTER_OTLP_(?:\w+_)?ENDPOINT|(?:\w+_)?PROXY|ASYNQ_TTL_(?:UPSTREAM|SINK)", re.IGNORECASE)
# Between the pieces that a library may take a URL or a header for.
_BETWEEN = re.compile(r"\W+")
# Shorter pieces are in every line.
_LEAST = 3
_OWN = "asynq_ttl"
_LEFT_OUT = "a line that repeats a credential of the environment is left out"
_HARMLESS = frozenset(("authorization", "basic", "bearer", "http", "https", "localhost", "v1", "traces", "metrics"))


class Redaction(logging.Formatter):
    """Formats lines, and leaves those of libraries out that repeat a secret.

    Args:
        formatter: how lines look.
        environment: the variables of this process.
    """

    def __init__(self, formatter: logging.Formatter, environment: Mapping[str, str]) -> None:
        super().__init__()
        self._inner = formatter
        self._pieces = frozenset(pieces_of_secrets(environment))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, or the one in its place."""
        if record.name.partition(".")[0] != _OWN and self._pieces and self._repeats(record):
            record = logging.LogRecord(record.name, record.levelno, record.pathname, record.lineno, _LEFT_OUT, (), None)
        return self._inner.format(record)

    def _repeats(self, record: logging.LogRecord) -> bool:
        try:
            text = super().format(record)
        except Exception:  # noqa: BLE001 - what cannot be formatted is the handler's to tell
            return False
        said = printable(text)
        return any(piece in said for piece in self._pieces)


def pieces_of_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Yield what must not be repeated: each secret of the environment, and the pieces that a parser may make of it."""
    for name, value in environment.items():
        if _WHOLE.fullmatch(name):
            secrets = [value]
        elif _URL.fullmatch(name):
            secrets = list(_of_url(value))
        else:
            continue
        for secret in secrets:
            for text in (secret, unquote(secret)):
                for piece in (text, *_BETWEEN.split(text)):
                    if len(piece) >= _LEAST and piece.lower() not in _HARMLESS:
                        yield piece


def _of_url(url: str) -> Iterator[str]:
    """Yield the parts of a URL that may be secret: its credentials and its query.

    Where it may be malformed, because a password in it is not percent-encoded, that is all but its scheme.
    """
    try:
        parts = urlsplit(url)
        whole = bool(parts.hostname) and parts.port != 0 and "@" not in parts.path + parts.query and not parts.fragment
    except ValueError:
        whole = False
    if not whole:
        yield url.partition("://")[2] or url
        return
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    yield password or user
    yield parts.query
