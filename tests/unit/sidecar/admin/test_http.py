"""HTTP/1.1 as it comes from a socket: however it is cut, too much of it, none of it, and what gets an answer."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from asynq_ttl.sidecar.admin import http
from asynq_ttl.sidecar.admin.http import Headers, HttpAnswer, HttpServer, Request, json_answer, refusal

Call = Callable[[Request], Awaitable[HttpAnswer]]


async def echo(request: Request) -> HttpAnswer:
    """Answer with what was asked."""
    told = {"method": request.method, "path": request.path, "pairs": request.pairs, "body": request.body.decode()}
    return json_answer(told | {"x": request.headers.get("X-Y", "")})


class Peer:
    """A client that speaks bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes, *, step: int = 1 << 20) -> None:
        """Send bytes, so many at a time."""
        for start in range(0, len(data), step):
            self.writer.write(data[start : start + step])
            await self.writer.drain()
            await asyncio.sleep(0)

    async def head(self) -> tuple[int, Headers]:
        """Read a status and headers."""
        status, *lines = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
        pairs = [line.split(b": ", 1) for line in lines]
        return int(status.split()[1]), Headers((name, value) for name, value in pairs)

    async def answer(self) -> tuple[int, bytes]:
        """Read an answer of a length that it says."""
        status, headers = await self.head()
        return status, await self.reader.readexactly(int(headers["Content-Length"]))

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """Send bytes and read the answer."""
        await self.send(data)
        return await self.answer()


@asynccontextmanager
async def connected(call: Call = echo) -> AsyncIterator[tuple[HttpServer, Peer]]:
    """Yield a server and a client that is connected to it."""
    server = HttpServer(call)
    reader, writer = await asyncio.open_connection("127.0.0.1", await server.start("127.0.0.1", 0))
    try:
        yield server, Peer(reader, writer)
    finally:
        await server.close(0)
        writer.close()


GET = b"GET /a%20b?x=1&y= HTTP/1.1\r\nHost: h\r\nx-y: z\r\n\r\n"
POST = b"POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
async def test_requests_are_answered_in_their_order_however_they_are_cut(step: int) -> None:
    """Two that come as one, on one connection, which stays open for a third."""
    async with connected() as (_, peer):
        await peer.send(GET + POST, step=step)
        status, body = await peer.answer()
        assert (status, json.loads(body)) == (
            200,
            {"method": "GET", "path": "/a b", "pairs": [["x", "1"], ["y", ""]], "body": "", "x": "z"},
        )
        assert json.loads((await peer.answer())[1])["body"] == "hi"
        assert (await peer.ask(GET))[0] == 200


async def test_every_answer_has_the_headers_that_keep_browsers_from_guessing() -> None:
    """Also a refusal of what cannot be read, and it says that the connection ends."""
    async with connected() as (_, peer):
        await peer.send(GET)
        _, headers = await peer.head()
        await peer.reader.readexactly(int(headers["content-length"]))
        await peer.send(b"nonsense\r\n\r\n")
        status, refused = await peer.head()
        assert status == 400
        for name in ("Cache-Control", "X-Content-Type-Options", "X-Frame-Options", "Date"):
            assert headers[name]
            assert refused[name]
        assert refused["Connection"] == "close"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + b"x" * 40_000, 413),
        (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8000\r\n" + b"x" * 0x8000, 413),
    ],
)
async def test_what_cannot_be_read_is_refused_and_hung_up_on(request_bytes: bytes, status: int) -> None:
    """With the status that says why, after which the connection ends."""
    async with connected() as (_, peer):
        found, body = await peer.ask(request_bytes)
        assert (found, list(json.loads(body))) == (status, ["error"])
        assert await peer.reader.read() == b""


async def test_a_head_is_asked_for_alone() -> None:
    """Its length is that of the answer to GET, and nothing follows it; not even a stream."""
    closed = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            yield b"x"
        finally:
            closed.set()

    async def call(request: Request) -> HttpAnswer:
        return HttpAnswer(parts()) if request.path == "/stream" else HttpAnswer(b"12345")

    async with connected(call) as (_, peer):
        await peer.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await peer.head())[1]["Content-Length"] == "5"
        await peer.send(b"HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await peer.head())[1]["Transfer-Encoding"] == "chunked"
        assert (await peer.ask(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")) == (200, b"12345")


async def test_a_client_may_wait_to_be_asked_for_the_body() -> None:
    """As curl does before it sends one that is not small."""
    async with connected() as (_, peer):
        head, body = POST[:-2].replace(b"Host", b"Expect: 100-continue\r\nHost"), POST[-2:]
        await peer.send(head)
        assert (await peer.head())[0] == 100
        status, told = await peer.ask(body)
        assert (status, json.loads(told)["body"]) == (200, "hi")


async def test_the_whole_url_may_be_given_and_an_old_version_be_spoken() -> None:
    """The path is what it is; who speaks HTTP/1.0 is hung up on after the answer."""
    async with connected() as (_, peer):
        told = json.loads((await peer.ask(b"GET http://h:1/a?b=c HTTP/1.1\r\nHost: h:1\r\n\r\n"))[1])
        assert (told["path"], told["pairs"]) == ("/a", [["b", "c"]])
        told = json.loads((await peer.ask(b"GET /a HTTP/1.0\r\n\r\n"))[1])
        assert told["path"] == "/a"
        assert await peer.reader.read() == b""


async def test_a_stream_ends_when_its_client_has_gone() -> None:
    """At the next part that cannot be written; what makes the parts is told."""
    ended = asyncio.Event()

    async def parts() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    async def call(_request: Request) -> HttpAnswer:
        return HttpAnswer(parts())

    async with connected(call) as (_, peer):
        await peer.send(GET)
        await peer.head()
        assert not ended.is_set()
        peer.writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 10)


async def test_who_says_nothing_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the middle of a request."""
    monkeypatch.setattr(http, "_REQUEST_SECONDS", 0.05)
    async with connected() as (_, peer):
        await peer.send(GET[:10])
        assert await peer.reader.read() == b""


async def test_at_the_end_what_is_under_way_is_answered() -> None:
    """Within its bound; who is idle is hung up on at once, and nobody else can come."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def call(_request: Request) -> HttpAnswer:
        asked.set()
        await go_on.wait()
        return HttpAnswer(b"done")

    async with connected(call) as (server, peer):
        name = peer.writer.get_extra_info("peername")
        idle, its_writer = await asyncio.open_connection(*name)
        await peer.send(GET)
        await asked.wait()
        closing = asyncio.create_task(server.close(60))
        assert await idle.read() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*name)
        go_on.set()
        assert await peer.answer() == (200, b"done")
        await closing
        its_writer.close()


async def test_at_the_end_nobody_is_waited_for_longer_than_the_bound() -> None:
    """An answer that does not come is no answer: the connection breaks off."""
    asked = asyncio.Event()

    async def call(_request: Request) -> HttpAnswer:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with connected(call) as (server, peer):
        await peer.send(GET)
        await asked.wait()
        await server.close(0.01)
        assert await peer.reader.read() == b""


def test_headers_are_found_in_any_case() -> None:
    """One that is given twice has both values: it cannot be taken for either of them."""
    headers = Headers([(b"Origin", b"a"), (b"origin", b"b"), (b"X", b"\xff")])
    assert (headers["ORIGIN"], headers.get("x"), headers.get("y")) == ("a, b", "\udcff", None)
    assert (list(headers), len(headers)) == (["origin", "x"], 2)


def test_a_refusal_without_a_message_says_what_its_status_says() -> None:
    """In HTTP's own words."""
    assert refusal(404).body == b'{"error": "Not Found"}\n'
