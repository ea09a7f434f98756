import asyncio
import errno
import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

from asynq_ttl.sweep.sink import FileSink, SinkAddress, SinkError, WebhookSink, parse_sink


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("file:/var/log/tasks.jsonl", SinkAddress(path=Path("/var/log/tasks.jsonl"))),
        ("file:tasks?max_mb=5", SinkAddress(path=Path("tasks"), megabytes=5)),
        ("https://a:b@host:8/x?y", SinkAddress(url="https://a:b@host:8/x?y")),
    ],
)
def test_sinks_are_read(text: str, address: SinkAddress) -> None:
    """Files and webhooks."""
    assert parse_sink(text) == address


def test_a_sink_shows_no_secret() -> None:
    """Credentials, path and query of a URL stay out of the log: many webhooks have their token in the path."""
    assert str(parse_sink("https://a:b@host:8/x?token=y")) == "https://host:8"
    assert str(parse_sink("file:/x?max_mb=5")) == "file:/x"


@pytest.mark.parametrize(
    "text", ["", "tasks", "file:", "http://", "file:/x?max_mb=", "file:/x?max_mb=0", "file:/x?a=b"]
)
def test_what_is_no_sink_is_refused(text: str) -> None:
    """With one message."""
    with pytest.raises(ValueError, match=r"expected|no host|only option"):
        parse_sink(text)


async def test_a_full_file_is_put_aside(tmp_path: Path) -> None:
    """Nothing is lost or cut, and no file is larger than it may be."""
    sink = FileSink(tmp_path / "tasks", 200)
    for number in range(30):
        await sink.take([{"id": number, "text": "x" * 20}])
    files = await asyncio.to_thread(lambda: list(tmp_path.iterdir()))
    assert len(files) > 5
    assert max(file.stat().st_size for file in files) <= 200
    ids = [json.loads(line)["id"] for file in files for line in file.read_text().splitlines()]
    assert sorted(ids) == list(range(30))


async def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """The sink fails."""
    with pytest.raises(SinkError, match="No such file"):
        await FileSink(tmp_path / "none" / "tasks", 200).take([{}])


async def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of the lines that failed is taken back."""
    path = tmp_path / "tasks"
    sink = FileSink(path, 1 << 20)
    await sink.take([{"id": 1}])

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SinkError, match="No space left"):
        await sink.take([{"id": 2}])
    assert path.read_text() == '{"id": 1}\n'


async def test_a_disk_that_is_full_is_called_that(tmp_path: Path) -> None:
    """Also where nothing can be taken back."""
    (tmp_path / "tasks").symlink_to("/dev/full")
    with pytest.raises(SinkError, match="No space left"):
        await FileSink(tmp_path / "tasks", 1 << 20).take([{"id": 1}])


async def test_a_disk_that_hangs_is_waited_for_once(tmp_path: Path) -> None:
    """A pipe that nobody reads does as such a disk; while it hangs nothing more is written, afterwards it is."""
    path = tmp_path / "tasks"
    os.mkfifo(path)
    sink = FileSink(path, 1 << 20, seconds=0.05)
    with pytest.raises(SinkError, match="does not answer"):
        await sink.take([{"id": 1}])
    with pytest.raises(SinkError, match="still not answered"):
        await sink.take([{"id": 2}])
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.unlink()
    taken = False
    while not taken:
        await asyncio.sleep(0.01)
        with suppress(SinkError):
            await sink.take([{"id": 3}])
            taken = True
    os.close(reader)
    assert path.read_text() == '{"id": 3}\n'


async def test_a_webhook_that_is_not_there() -> None:
    """The sink fails, and says where."""
    sink = WebhookSink(SinkAddress(url="http://127.0.0.1:1/x"))
    with pytest.raises(SinkError, match=r"127\.0\.0\.1:1: "):
        await sink.take([{}])
    await sink.close()


@pytest.mark.parametrize("url", ["http://me:12/3@h/x", "http://me:1x@h:y/", "https://me:12#3@h/x", "http://me:1?2@h/"])
def test_a_password_that_is_not_encoded_is_not_repeated(url: str) -> None:
    """The rest of it stands where a port, a path or a query belongs."""
    with pytest.raises(ValueError, match="percent-encode") as caught:
        parse_sink(url)
    assert "12" not in str(caught.value)
    assert "1x" not in str(caught.value)


async def test_what_does_not_speak_http_is_told_without_the_url() -> None:
    """A token may stand in its path or query."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0 hello\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        sink = WebhookSink(SinkAddress(url=f"http://127.0.0.1:{port}/s3same?t=s3same"))
        with pytest.raises(SinkError, match="does not speak HTTP") as refused:
            await sink.take([{}])
        await sink.close()
    assert "s3same" not in str(refused.value)
    assert "s3same" not in repr(SinkAddress(url="http://me:s3same@h/"))


@pytest.mark.parametrize("text", ["file://[s3same/x", "file://s3\u2100same@h/x"])
def test_a_file_that_is_malformed_is_not_repeated(text: str) -> None:
    """The standard library's own words would."""
    with pytest.raises(ValueError, match="expected file:PATH") as refused:
        parse_sink(text)
    assert "same" not in str(refused.value)
