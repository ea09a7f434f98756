"""The verbs of probes and hooks, `asynq-ttl ready` and `asynq-ttl drain`, for images without a shell or curl.

They run every few seconds beside a busy worker, so nothing is imported here that costs time to import: the standard
library and click.
"""

import http.client
import os
import select
import signal
import socket
from pathlib import Path
from typing import NoReturn

import click

_PROBE_SECONDS = 4.0


@click.command()
@click.option(
    "--admin",
    envvar="ASYNQ_TTL_ADMIN",
    default="127.0.0.1:9180",
    show_default=True,
    show_envvar=True,
    help="The admin server of the sidecar: HOST:PORT or unix:PATH.",
)
@click.option("--live", "path", flag_value="/livez", help="Ask whether it works, with or without Redis.")
@click.option("--startup", "path", flag_value="/startupz", help="Ask whether it has started.")
def ready(admin: str, path: str | None) -> None:
    """Ask a running sidecar whether it can serve clients. Exits with 0 if so, else with 1 and says why."""
    path = path or "/readyz"
    connection = _connection(admin)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            text = response.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        _fail(f"no answer from the admin server at {admin}: {error}")
    finally:
        connection.close()
    if response.status != http.client.OK:
        _fail(text or f"the admin server answers {path} with status {response.status}")
    click.echo(text)


@click.command()
@click.option(
    "--pid", type=click.IntRange(min=1), default=1, show_default=True, help="The process; in a container it is 1."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds to wait until it has ended.",
)
def drain(pid: int, timeout: float) -> None:
    """Tell a running sidecar to drain, and wait until it has ended. Linux only."""
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        _fail(f"there is no process {pid}: {error.strerror}")
    try:
        # Looked at after the process is held fast, so that it is this one that gets the signal.
        if not _is_sidecar(pid):
            _fail(f"process {pid} is no asynq-ttl serve")
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], timeout)[0]:
            _fail(f"process {pid} has not ended within {timeout:g} s")
    except PermissionError as error:
        _fail(f"process {pid} belongs to somebody else: {error.strerror}")
    finally:
        os.close(process)
    click.echo("drained")


def _connection(admin: str) -> http.client.HTTPConnection:
    if admin.startswith("unix:"):
        return _UnixConnection(admin.removeprefix("unix:").removeprefix("//"))
    host, _, port = admin.rpartition(":")
    if not port.isdigit():
        raise click.BadParameter(f"{admin!r} is no address; expected HOST:PORT or unix:PATH", param_hint="--admin")
    # What it listens at for everybody is asked on the loopback interface.
    host = host.strip("[]").replace("0.0.0.0", "127.0.0.1") or "127.0.0.1"  # noqa: S104 - replaced, not bound
    return http.client.HTTPConnection(host, int(port), timeout=_PROBE_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_PROBE_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_PROBE_SECONDS)
        self.sock.connect(self._path)


def _is_sidecar(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    names = [word.rpartition(b"/")[2] for word in words]
    return b"serve" in words and any(name in (b"asynq-ttl", b"asynq_ttl", b"asynq_ttl.cli") for name in names)


def _fail(message: str) -> NoReturn:
    click.echo(message, err=True)
    raise SystemExit(1)
