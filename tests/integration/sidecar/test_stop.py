"""However and whenever a sidecar is told to end, it does so at once, with its status, and leaves nothing running."""

import os
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.commands import run
from support.servers import Server, free_port, start_redis
from support.serving import END_SECONDS, Serving, serving

BLPOP = b"*3\r\n$5\r\nBLPOP\r\n$5\r\nnever\r\n$1\r\n0\r\n"
NUMBERS = [signal.SIGTERM, signal.SIGINT]
STEPS = 30


def options(server: Server, *more: object) -> list[object]:
    """Return options of a sidecar in front of a server."""
    return ["--listen", f"127.0.0.1:{free_port()}", "--admin", "off", "--upstream", server.url, *more]


def port_of(process: Serving) -> int:
    """Return the port at which a sidecar listens."""
    return int(process.told().partition("listening at 127.0.0.1:")[2].partition(",")[0])


@contextmanager
def deaf() -> Iterator[str]:
    """Accept connections, and say nothing on them, while the block runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def waiting(process: Serving) -> Iterator[None]:
    """Wait for a reply that does not come, as a client."""
    with socket.create_connection(("127.0.0.1", port_of(process))) as client:
        client.sendall(BLPOP)
        time.sleep(0.3)
        yield


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("embedded", [False, True], ids=["upstream", "embedded"])
def test_whenever_it_is_told_to_end_it_does(
    number: signal.Signals, embedded: bool, redis_server: Server, tmp_path: Path
) -> None:
    """From the first moment on; before it heeds signals the system ends it, which is as good: nothing has begun."""
    more = ["--embedded"] if embedded else []
    started = time.monotonic()
    with serving(tmp_path, *options(redis_server, *more)) as process:
        process.wait_for("listening at")
        most_seconds = (time.monotonic() - started) * 1.3
        process.signal(number)
        assert process.end() == 0
    seen = set()
    for step in range(STEPS):
        with serving(tmp_path, *options(redis_server, *more)) as process:
            time.sleep(most_seconds * step / STEPS)
            process.signal(number)
            seen.add(process.end())
            assert process.faults in ([], ["", "Aborted!"]), process.told()
    assert seen <= {0, -number, 1 if number is signal.SIGINT else 0}, seen
    assert 0 in seen


def test_reloading_never_ends_it(redis_server: Server, tmp_path: Path) -> None:
    """SIGHUP, from when it has begun, however early."""
    with serving(tmp_path, *options(redis_server, "--policy", tmp_path / "policy.yaml")) as process:
        os.mkfifo(tmp_path / "policy.yaml")
        with (tmp_path / "policy.yaml").open("w") as policy:  # it is just about to read it
            process.signal(signal.SIGHUP)
            policy.write("version: 1\nrules: [{name: all, archived: {ttl: 1h}}]")
        process.wait_for("listening at")
        (tmp_path / "policy.yaml").unlink()
        (tmp_path / "policy.yaml").write_text("version: 1\nrules: [{name: all, archived: {ttl: 2h}}]")
        process.signal(signal.SIGHUP)
        process.wait_for("is in force, mode enforce")
        process.signal(signal.SIGTERM)
        assert process.end() == 0
