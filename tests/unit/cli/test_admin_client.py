"""What is asked of an admin server, and what is said when there is none."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any, ClassVar

import pytest

from asynq_ttl.cli import admin_client
from asynq_ttl.cli.admin_client import AdminClientError, ask, connect, watch
from asynq_ttl.net.address import Address
from support.imports import imported_by
from support.servers import free_port


class _Answers(BaseHTTPRequestHandler):
    """Says what a test has prepared, one answer for each request."""

    protocol_version = "HTTP/1.1"
    prepared: ClassVar[list[tuple[int, str]]] = []
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        """Answer."""
        self.asked.append(self.path)
        status, text = self.prepared.pop(0)
        self.send_response(status)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(text.encode())
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


class _UnixServer(UnixStreamServer):
    def get_request(self) -> tuple[socket.socket, Any]:
        """Give the handler an address, which the client of a unix socket has not."""
        return super().get_request()[0], ("client", 0)


@contextmanager
def serving(address: Address, *answers: tuple[int, str]) -> Iterator[list[str]]:
    """Run an admin server that gives these answers; yield the paths it was asked for."""
    _Answers.prepared[:] = answers
    _Answers.asked.clear()
    server = _UnixServer(address.path, _Answers) if address.path else HTTPServer(("127.0.0.1", address.port), _Answers)
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield _Answers.asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(params=["127.0.0.1", "", "0.0.0.0", "unix"])  # noqa: S104 - asked on the loopback interface
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> Address:
    """Each kind of address at which an admin server listens."""
    return Address(path=f"{tmp_path}/admin") if request.param == "unix" else Address(request.param, free_port())


def test_an_answer(admin: Address) -> None:
    """By TCP, on the loopback interface where it listens for everybody, and by a unix socket."""
    with serving(admin, (200, '{"a": 1}')) as asked:
        assert ask(admin, "/api/status") == {"a": 1}
        assert asked == ["/api/status"]


def lines(*entries: dict[str, Any]) -> str:
    """Return a stream."""
    return "".join(json.dumps(entry) + "\n" for entry in entries)


WATCHING = {"kind": "watching"}


def test_a_stream_until_there_are_enough(admin: Address) -> None:
    """Heartbeats are not shown; what tells of the stream itself is shown, and does not count."""
    shown: list[dict[str, Any]] = []
    told = [{"kind": "decision", "n": n} for n in range(3)]
    dropped = {"kind": "dropped", "entries": 4}
    stream = lines(WATCHING, {"kind": "heartbeat"}, told[0], dropped, told[1], told[2])
    with serving(admin, (200, stream)) as asked:
        watch(admin, [("queue", "a b"), ("queue", "c&")], shown.append, limit=2)
        assert asked == ["/api/decisions/stream?queue=a+b&queue=c%26"]
    assert shown == [WATCHING, told[0], dropped, told[1]]


def test_a_sidecar_that_is_restarted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it has gone is shown, that it is back is not; an entry that was cut off is not shown."""
    monkeypatch.setattr(admin_client, "_RETRY_SECONDS", 0.01)
    shown: list[dict[str, Any]] = []
    admin, first, second = Address("127.0.0.1", free_port()), {"kind": "reload"}, {"kind": "pause"}
    broken = lines(WATCHING, first) + '{"kind": "deci'
    with serving(admin, (200, broken), (200, lines(WATCHING, second))):
        watch(admin, [], shown.append, limit=2)
    assert shown == [WATCHING, first, {"kind": "lost"}, second]


def test_a_fault_of_who_shows_is_no_loss() -> None:
    """`asynq-ttl tail | head` ends, it does not wait for the sidecar."""
    admin = Address("127.0.0.1", free_port())

    def show(_entry: dict[str, Any]) -> None:
        raise BrokenPipeError

    with serving(admin, (200, lines(WATCHING))), pytest.raises(BrokenPipeError):
        watch(admin, [], show)


@pytest.mark.parametrize(
    ("status", "text", "said"),
    [
        (400, '{"error": "colour is no field"}', "^colour is no field$"),
        (503, "{}", "^status 503$"),
        (200, "<html>", "^no admin server at .*; does a sidecar run"),
        (500, "oops", "^no admin server at "),
    ],
)
def test_a_refusal_says_why(status: int, text: str, said: str) -> None:
    """In its own words; who does not speak as an admin server does is none."""
    admin = Address("127.0.0.1", free_port())
    with serving(admin, (status, text), (status, text)):
        with pytest.raises(AdminClientError, match=said):
            ask(admin, "/api/status")
        with pytest.raises(AdminClientError, match=said):
            watch(admin, [], lambda _: None)


def test_nobody_to_ask() -> None:
    """The fault says where was asked, and what to do."""
    nobody = Address("127.0.0.1", free_port())
    with pytest.raises(AdminClientError, match=f"no admin server at {nobody}: .*does a sidecar run"):
        ask(nobody, "/api/status")
    with pytest.raises(AdminClientError, match=f"no admin server at {nobody}"):
        watch(nobody, [], lambda _: None)
    with pytest.raises(AdminClientError, match="no admin server at unix:/nowhere"):
        ask(Address(path="/nowhere"), "/api/status")


def test_who_says_nothing_is_not_waited_for_long() -> None:
    """The time is the caller's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = connect(Address(*silent.getsockname()), 0.05)
        connection.request("GET", "/livez")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()


def test_it_needs_the_standard_library_alone() -> None:
    """A probe imports it every few seconds."""
    loaded = imported_by("ready", "--admin", "127.0.0.1:1")
    assert "asynq_ttl.cli.admin_client" in loaded
    assert not {"aiohttp", "asyncio", "redis", "rich"} & loaded
