"""HTTP/1.1 for the admin server: a request in, an answer out. The only importer of h11.

h11 has the protocol, asyncio the sockets; here is what lies between. Knows nothing of a sidecar. (aiohttp does as much
and takes 11 MB beside every worker; h11 takes 0.4.)

Invariants:

* What a client costs is bounded: the head and the body of a request, the time until both have come, and what is
  written and not read yet.
* Every answer has the headers of `_HEADERS`, also one to a request that cannot be read.
"""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote

import h11

_MAX_HEAD_BYTES = 16 * 1024
_MAX_BODY_BYTES = 16 * 1024
_READ_BYTES = 16 * 1024
# How long a request may take to come, also the next one on a connection that stays open.
_REQUEST_SECONDS = 75.0
# How long what a client still sends is read after it was refused: to hang up at once could lose the refusal.
_LINGER_SECONDS = 0.3

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class Headers(Mapping[str, str]):
    """Headers by their names in any case; one that is given several times has its values with commas between."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, str] = {}
        for raw_name, raw_value in pairs:
            name, value = raw_name.decode("ascii").lower(), raw_value.decode("utf-8", "surrogateescape")
            self._values[name] = f"{self._values[name]}, {value}" if name in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for.

    Attributes:
        method: GET, POST and so on.
        path: the path, decoded.
        query: the query, percent-encoded.
        headers: the headers.
        body: the body; empty without one.
    """

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The names and values in the query, in its order."""
        return parse_qsl(self.query, keep_blank_values=True, errors="surrogateescape")


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What it gets.

    Attributes:
        body: the body, or its parts as they come.
        content_type: what it is.
        status: the HTTP status.
        headers: headers that only this answer has.
    """

    body: bytes | AsyncGenerator[bytes, None]
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


def json_answer(content: Mapping[str, Any], status: int = 200) -> HttpAnswer:
    """Return an answer in JSON."""
    return HttpAnswer((json.dumps(content) + "\n").encode(), "application/json; charset=utf-8", status)


def refusal(status: int, message: str = "") -> HttpAnswer:
    """Return why a request is not done, in JSON; without a message it is what the status says."""
    return json_answer({"error": message or HTTPStatus(status).phrase}, status)


class HttpServer:
    """Listens, and answers one request after the other on each connection.

    Args:
        answer: answers a request. It may raise nothing but ConnectionError.
    """

    def __init__(self, answer: Callable[[Request], Awaitable[HttpAnswer]]) -> None:
        self._answer = answer
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def start(self, host: str | None = None, port: int | None = None, sock: socket.socket | None = None) -> int:
        """Listen at a host and port, or with a socket, and return the port; 0 where there is none.

        Raises:
            OSError: that is not possible.
            UnicodeError: the host can be no name.
        """
        self._server = await asyncio.start_server(self._accept, host, port, sock=sock)
        name = self._server.sockets[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    async def close(self, seconds: float) -> None:
        """Listen no longer, let requests under way be answered within a bound, and hang up."""
        if self._server is None:
            return
        self._server.close()
        for task, connection in self._connections.items():
            if not connection.end():
                task.cancel()
        tasks = list(self._connections)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this as a task
        self._connections[task] = connection = _Connection(reader, writer, self._answer)
        try:
            await connection.serve()
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass  # who asked has gone, or takes too long, or the server ends; streams log a task that was cancelled
        finally:
            del self._connections[task]
            writer.transport.abort() if connection.broken else writer.close()


class _Connection:
    """One connection of a client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Callable[[Request], Awaitable[HttpAnswer]],
    ) -> None:
        self._idle = True
        self._ending = False
        self.broken = False
        """Whether an answer was begun and has not come to its end."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)

    async def serve(self) -> None:
        """Answer until one of the two wants no more.

        Raises:
            ConnectionError: the client has gone.
            TimeoutError: it takes too long to ask.
        """
        try:
            while True:
                async with asyncio.timeout(_REQUEST_SECONDS):
                    request = await self._request()
                if request is None:
                    return
                await self._send(await self._answer(request), with_body=request.method != "HEAD")
                if self._ending or self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                    return
                self._http.start_next_cycle()
                self._idle = True
        except h11.RemoteProtocolError as error:
            await self._refuse(refusal(error.error_status_hint))
        except _BodyTooLargeError:
            await self._refuse(refusal(413))

    def end(self) -> bool:
        """Hang up after the request that is under way; say whether there is one."""
        self._ending = True
        return not self._idle

    async def _request(self) -> Request | None:
        """Return the next request; None if there is none any more."""
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        self._idle = False
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > _MAX_BODY_BYTES:
                raise _BodyTooLargeError
        path, _, query = head.target.decode("ascii").partition("?")
        if not path.startswith("/"):  # the whole URL, as for a proxy
            path = "/" + path.partition("://")[2].partition("/")[2]
        return Request(head.method.decode("ascii"), unquote(path), query, Headers(head.headers), bytes(body))

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        """Return what comes next."""
        while True:
            event = self._http.next_event()
            if event is h11.PAUSED or isinstance(event, h11.Event):
                return event
            if self._http.they_are_waiting_for_100_continue:
                self._write(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._reader.read(_READ_BYTES))

    async def _send(self, answer: HttpAnswer, *, with_body: bool) -> None:
        """Send an answer.

        Args:
            answer: the answer.
            with_body: whether its body is wanted.
        """
        headers = {"Date": formatdate(usegmt=True), "Content-Type": answer.content_type, **_HEADERS, **answer.headers}
        if isinstance(answer.body, bytes):
            headers["Content-Length"] = str(len(answer.body))
        self.broken = True
        self._write(h11.Response(status_code=answer.status, headers=list(headers.items())))
        if isinstance(answer.body, bytes):
            await self._send_body(answer.body if with_body else b"")
        else:
            async with aclosing(answer.body) as parts:
                async for part in parts if with_body else _nothing():
                    await self._send_body(part)
        self._write(h11.EndOfMessage())
        await self._writer.drain()
        self.broken = False

    async def _send_body(self, data: bytes) -> None:
        self._write(h11.Data(data=data))
        await self._writer.drain()

    async def _refuse(self, answer: HttpAnswer) -> None:
        """Answer what cannot be read, if nothing was answered yet, and read no more of it."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        closing = HttpAnswer(answer.body, answer.content_type, answer.status, {"Connection": "close"})
        await self._send(closing, with_body=True)
        self._writer.write_eof()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_READ_BYTES):
                    pass

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)


class _BodyTooLargeError(Exception):
    """The body of a request is larger than any that is needed."""


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield
