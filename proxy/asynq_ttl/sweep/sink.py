"""Where the sweeper hands tasks over before it removes them: a file with rotation, or a webhook.

Invariants:

* `take` returns only when all lines are there: written and synced, or answered with 2xx. Otherwise it raises
  `SinkError`, and the tasks stay in Redis.
* It takes no longer than `SINK_TIMEOUT_SECONDS`, whatever a disk or a network does, and keeps no process from ending.
* A task may come twice, if the sidecar is killed between handing it over and removing it, or a disk answers late. No
  task is lost because a sink failed.
"""

import asyncio
import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from asynq_ttl.net.address import AddressError, split_url

Json = dict[str, Any]

# For how long a sink is waited for.
SINK_TIMEOUT_SECONDS = 10.0
_DEFAULT_MEGABYTES = 100
_EXPECTED = "expected file:PATH, file:PATH?max_mb=N, http://... or https://..."


class SinkError(Exception):
    """The lines could not be handed over; the message says why."""


class Sink(Protocol):
    """Something that takes tasks over."""

    async def take(self, lines: Sequence[Json]) -> None:
        """Take some tasks.

        Raises:
            SinkError: not all of them could be taken.
        """

    async def close(self) -> None:
        """Give back what it holds."""


@dataclass(frozen=True, slots=True)
class SinkAddress:
    """Where a sink is.

    Attributes:
        url: the URL of a webhook; empty for a file.
        path: the file; None for a webhook.
        megabytes: how large the file may get before another one is begun.
    """

    url: str = field(default="", repr=False)
    path: Path | None = None
    megabytes: int = _DEFAULT_MEGABYTES

    def __str__(self) -> str:
        """Return the address without the parts of a URL that may be secret: credentials, path and query."""
        if self.path is not None:
            return f"file:{self.path}"
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}"

    def open(self) -> Sink:
        """Return the sink. Nothing is opened yet, so what is wrong with it shows when it first takes something."""
        if self.path is not None:
            return FileSink(self.path, self.megabytes << 20)
        return WebhookSink(self)


def parse_sink(text: str) -> SinkAddress:
    """Return the address that `file:PATH`, `file:PATH?max_mb=N`, or the URL of a webhook stands for.

    Raises:
        ValueError: the text is none of them; the message says what is expected.
    """
    try:
        parts = urlsplit(text) if text.startswith("file:") else split_url(text, "the URL of the webhook")[0]
    except AddressError:
        raise
    except ValueError:  # whose text may repeat a part of it
        raise ValueError(_EXPECTED) from None
    if parts.scheme in ("http", "https"):
        if not parts.hostname:
            raise ValueError("the URL of the webhook has no host")
        return SinkAddress(url=text)
    if parts.scheme != "file" or not parts.path:
        raise ValueError(_EXPECTED)
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    megabytes = options.pop("max_mb", str(_DEFAULT_MEGABYTES))
    if options or not megabytes.isdigit() or not 1 <= int(megabytes) <= 1_000_000:
        raise ValueError("the only option of a file is ?max_mb=N, a number of at least 1")
    return SinkAddress(path=Path(unquote(parts.path)), megabytes=int(megabytes))


class FileSink:
    """A file of JSON lines. When it is full, the time is put behind its name and a new one is begun; none is deleted.

    Args:
        path: the file.
        most_bytes: how large it may get.
        seconds: how long the disk is waited for.
    """

    def __init__(self, path: Path, most_bytes: int, seconds: float = SINK_TIMEOUT_SECONDS) -> None:
        self._path = path
        self._most_bytes = most_bytes
        self._seconds = seconds
        self._written: asyncio.Future[None] | None = None

    async def take(self, lines: Sequence[Json]) -> None:
        """Append some lines and see them on the disk. While it does not answer, no more are written."""
        if self._written is not None and not self._written.done():
            raise SinkError(f"{self._path}: the disk has still not answered")
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        self._written = _in_thread(partial(self._append, content))
        try:
            async with asyncio.timeout(self._seconds):
                await asyncio.shield(self._written)
        except TimeoutError:
            raise SinkError(f"{self._path}: the disk does not answer") from None
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from error

    async def close(self) -> None:
        """Do nothing: no file is open between two calls."""

    def _append(self, content: bytes) -> None:
        if self._path.exists() and self._path.stat().st_size + len(content) > self._most_bytes:
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            self._path.rename(self._path.with_name(f"{self._path.name}.{now}"))
        # Without a buffer, which would be written after all when the file is closed.
        with self._path.open("ab", buffering=0) as file:
            # Where the disk is full, what was written of these lines is taken back: every line in the file is whole.
            start = file.tell()
            try:
                rest = memoryview(content)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), start)
                raise


def _in_thread(work: Callable[[], None]) -> asyncio.Future[None]:
    """Do something in a thread that nothing waits for at the end of the process; return a future of its end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if error is None:
            ended.set_result(None)
        else:
            ended.set_exception(error)
            ended.exception()  # nobody may wait for it any more

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as raised:  # noqa: BLE001 - the future raises it
            error = raised
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="sink", daemon=True).start()
    return ended


class WebhookSink:
    """A webhook that gets JSON lines (`application/x-ndjson`) by POST and has to answer with 2xx.

    Args:
        address: its URL; credentials in it are sent as basic authentication.
    """

    def __init__(self, address: SinkAddress) -> None:
        import aiohttp  # noqa: PLC0415 - eight megabytes, and few have a webhook

        self._address = address
        self._aiohttp = aiohttp
        self._session: aiohttp.ClientSession | None = None

    async def take(self, lines: Sequence[Json]) -> None:
        """Post some lines."""
        if self._session is None:
            timeout = self._aiohttp.ClientTimeout(total=SINK_TIMEOUT_SECONDS)
            self._session = self._aiohttp.ClientSession(timeout=timeout)
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            async with self._session.post(
                self._address.url, data=content, headers=headers, allow_redirects=False
            ) as answer:
                if answer.status // 100 != 2:
                    raise SinkError(f"{self._address} answers {answer.status}")
        except (self._aiohttp.InvalidURL, ValueError):  # their texts repeat the URL
            raise SinkError(f"{self._address}: the URL cannot be used") from None
        except self._aiohttp.ClientResponseError:  # its text repeats the URL
            raise SinkError(f"{self._address}: what answers does not speak HTTP") from None
        except (self._aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkError(f"{self._address}: {str(error) or type(error).__name__}") from error

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
