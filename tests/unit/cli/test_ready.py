"""The probe: what it asks, what it says, and that it is quick to import."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from click.testing import CliRunner

from asynq_ttl.cli.ready import ready
from support.imports import imported_by


class _Admin(BaseHTTPRequestHandler):
    """An admin server that is alive, has started and has no Redis."""

    def do_GET(self) -> None:
        """Answer as the path says."""
        status, text = (503, b"redis is away\n") if self.path == "/readyz" else (200, self.path.encode())
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Say nothing."""


@pytest.fixture
def admin() -> Iterator[str]:
    """Where an admin server listens."""
    with HTTPServer(("127.0.0.1", 0), _Admin) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"0.0.0.0:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [([], 1, "redis is away\n"), (["--live"], 0, "/livez\n"), (["--startup"], 0, "/startupz\n")],
)
def test_ready_asks_the_admin_server(admin: str, options: list[str], status: int, text: str) -> None:
    """The status is the answer's, and the text says why."""
    result = CliRunner().invoke(ready, ["--admin", admin, *options])
    assert (result.exit_code, result.output) == (status, text)


def test_ready_says_that_nobody_answers() -> None:
    """Without a sidecar it fails, and says where it asked."""
    result = CliRunner().invoke(ready, ["--admin", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no answer from the admin server at 127.0.0.1:1" in result.output


def test_ready_refuses_an_address_without_a_port() -> None:
    """A wrong address is a wrong command line."""
    result = CliRunner().invoke(ready, ["--admin", "localhost"])
    assert result.exit_code == 2
    assert "expected HOST:PORT" in result.output


def test_it_imports_nothing_slow() -> None:
    """A probe does not pay for telemetry, policy files or an event loop."""
    loaded = imported_by("ready", "--admin", "127.0.0.1:1")
    assert "click" in loaded
    assert not {"opentelemetry", "redis", "uvloop", "asyncio", "aiohttp", "rich"} & loaded
