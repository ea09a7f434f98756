"""A webhook that takes tasks, or does not."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Webhook:
    """Answers POSTs of JSON lines in a thread of its own.

    Attributes:
        status: what it answers with.
        seconds: how long it thinks before it does.
        taken: the lines that it answered 200 to.
    """

    def __init__(self) -> None:
        self.status = 200
        self.seconds = 0.0
        self.taken: list[dict[str, Any]] = []
        self._open = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def address(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_port}/tasks"

    @property
    def ids(self) -> set[str]:
        """The IDs of the tasks that it has taken."""
        return {line["id"] for line in self.taken}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = hook.status
                hook._open.wait(hook.seconds)
                if status == 200:
                    hook.taken.extend(json.loads(line) for line in body.splitlines())
                self.send_response(status)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler
