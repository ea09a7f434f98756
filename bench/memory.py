"""What memory a sidecar takes: after its start, by what it is asked to do, and with many connections.

    python bench/memory.py
    python bench/memory.py --connections 1000 --connections 10000

Rss is what the kernel counts for the process (smaps_rollup), two seconds after it is ready and its metrics were read
once; Anonymous is the part of it that no two processes share. Each row is a process of its own, in front of a Redis of
its own. A connection has asked one PING, and says nothing more.
"""

import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError
from urllib.request import urlopen

import click

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from contestants import most_connections

from support.servers import Sidecar, SidecarFactory, start_redis, wait_until

_ADMIN = {"admin": "127.0.0.1:0"}
_NOWHERE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_SAMPLER": "always_off"}
_POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d, max: 1000}, completed: {ttl: keep}}]\n"
_PING, _PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"


class Resident(NamedTuple):
    """Memory in KiB."""

    rss: int
    anonymous: int


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--connections", type=click.IntRange(min=1), multiple=True, default=[1_000, 10_000])
def main(*, connections: tuple[int, ...]) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {"decisions": str(folder / "decisions.jsonl"), "sink": f"file:{folder / 'sink'}"}
        whole = _ADMIN | files
        configurations: dict[str, Mapping[str, str]] = {
            "no admin server": {"admin": "off"},
            "admin server": _ADMIN,
            "and a decision log and a sink": whole,
            "and OTLP by HTTP": whole | _NOWHERE,
            "and OTLP by gRPC": whole | _NOWHERE | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        }
        for title, options in configurations.items():
            with _running(folder / title, options) as sidecar:
                _print(title, _resident(sidecar))
        for wanted in connections:
            count = min(wanted, most_connections())
            with _running(folder / f"{wanted} connections", _ADMIN) as sidecar, ExitStack() as stack:
                before = _resident(sidecar)
                for _ in range(count):
                    _ping(stack.enter_context(closing(socket.create_connection(("127.0.0.1", sidecar.port)))))
                time.sleep(2)
                after = _resident(sidecar)
                _print(f"{count:,} connections", after)
                click.echo(f"{'':32}  {(after.rss - before.rss) / count:.1f} KiB for each")


@contextmanager
def _running(folder: Path, options: Mapping[str, str]) -> Iterator[Sidecar]:
    """Run a sidecar in front of a Redis, and yield it when it has settled."""
    with start_redis("--maxclients", str(2 * most_connections())) as server, SidecarFactory(folder) as start:
        sidecar = start(server.url, _POLICY, **options)
        sidecar.expected_warnings.append("")
        if options["admin"] != "off":
            wait_until(lambda: _read(sidecar, "readyz") == b"ok\n", "it does not get ready")
            _read(sidecar, "metrics")
        time.sleep(2)
        yield sidecar


def _read(sidecar: Sidecar, call: str) -> bytes:
    """Return what a call of the admin server answers; nothing where that is a refusal."""
    with suppress(HTTPError), urlopen(f"http://{sidecar.admin}/{call}", timeout=10) as answer:
        return bytes(answer.read())
    return b""


def _ping(connection: socket.socket) -> None:
    connection.sendall(_PING)
    assert connection.recv(len(_PONG)) == _PONG


def _resident(sidecar: Sidecar) -> Resident:
    """Return the memory of a sidecar's process."""
    assert sidecar.process is not None
    lines = Path(f"/proc/{sidecar.process.pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
    return Resident(found["Rss"], found["Anonymous"])


def _print(title: str, resident: Resident) -> None:
    click.echo(f"{title:32}{resident.rss / 1024:7.1f} MB, of which {resident.anonymous / 1024:.1f} anonymous")


if __name__ == "__main__":
    main()
