"""A client of the admin server: one question and its answer, or a stream of what happens.

Used by `ready`, `report` and `tail`. A probe imports it every few seconds, so the standard library has to do.
"""

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from asynq_ttl.net.address import Address

Json = dict[str, Any]

# The sidecar says something every second.
_SILENCE_SECONDS = 10.0
_RETRY_SECONDS = 1.0
_MAX_LINE_BYTES = 1 << 20
# An address to listen at, for everybody: it is asked on the loopback interface.
_EVERYBODY = ("", "0.0.0.0")  # noqa: S104 - compared, not bound

FAULTS = (OSError, http.client.HTTPException, ValueError)
"""What is raised where nobody answers, or somebody who is no admin server."""


class AdminClientError(Exception):
    """The admin server cannot be asked; the message says why and what to do."""


class _UnreachableError(AdminClientError):
    """Nobody answers, or not any more."""


def connect(admin: Address, timeout_seconds: float) -> http.client.HTTPConnection:
    """Return a connection to the admin server of a sidecar, which is opened by its first request.

    Args:
        admin: where it listens.
        timeout_seconds: how long connecting, and each silence after it, may last.
    """
    if admin.path:
        return _UnixConnection(admin.path, timeout_seconds)
    host = "127.0.0.1" if admin.host in _EVERYBODY else admin.host
    return http.client.HTTPConnection(host, admin.port, timeout=timeout_seconds)


def ask(admin: Address, call: str) -> Json:
    """Return what the admin server of a sidecar answers.

    Args:
        admin: where it listens.
        call: the path, such as `/api/status`.

    Raises:
        AdminClientError: there is none, or it refuses.
    """
    connection = connect(admin, _SILENCE_SECONDS)
    try:
        connection.request("GET", call)
        with connection.getresponse() as response:
            return _checked(response)
    except FAULTS as error:
        raise _unreachable(admin, error) from None
    finally:
        connection.close()


def watch(admin: Address, wanted: Sequence[tuple[str, str]], show: Callable[[Json], None], *, limit: int = 0) -> None:
    """Show entries as they come, for ever or until so many have come. Wait for a sidecar that is restarted.

    Args:
        admin: where the sidecar's admin server listens.
        wanted: fields and values that entries must have, as `/api/decisions/stream` takes them.
        show: takes each entry; also those that tell of the stream itself (watching, dropped, lost).
        limit: end after so many; 0 for never.

    Raises:
        AdminClientError: there is no admin server, or it refuses. Once there was one, it is waited for instead.
    """
    connected = False
    shown = 0
    while True:
        try:
            for entry in _entries(admin, wanted):
                if entry["kind"] == "heartbeat" or (entry["kind"] == "watching" and connected):
                    continue
                connected = True
                show(entry)
                shown += entry["kind"] not in ("watching", "dropped")
                if limit and shown >= limit:
                    return
        except _UnreachableError:
            if not connected:
                raise
        show({"kind": "lost"})
        time.sleep(_RETRY_SECONDS)


def _entries(admin: Address, wanted: Sequence[tuple[str, str]]) -> Iterator[Json]:
    connection = connect(admin, _SILENCE_SECONDS)
    try:
        connection.request("GET", f"/api/decisions/stream?{urlencode(wanted)}")
        with connection.getresponse() as response:
            if response.status != http.client.OK:
                _checked(response)
            while line := response.readline(_MAX_LINE_BYTES):
                yield json.loads(line)
    except FAULTS as error:
        raise _unreachable(admin, error) from None
    finally:
        connection.close()


def _checked(response: http.client.HTTPResponse) -> Json:
    content: Json = json.load(response)
    if response.status != http.client.OK:
        raise AdminClientError(str(content.get("error", f"status {response.status}")))
    return content


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_seconds: float) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _unreachable(admin: Address, error: Exception) -> _UnreachableError:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return _UnreachableError(f"no admin server at {admin}: {reason}; does a sidecar run with --admin {admin}?")
