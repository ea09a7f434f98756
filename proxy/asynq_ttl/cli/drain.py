"""`asynq-ttl drain`: a hook for images without a shell. Linux only.

Like a probe it imports nothing that costs time to import.
"""

import os
import re
import select
import signal
from pathlib import Path

import click

from asynq_ttl.cli.options import Amount, fail
from asynq_ttl.cli.standard_output import say

# How it is started: by its name, by `python -m asynq_ttl`, or by the path of what that runs.
_PROGRAM = re.compile(rb"(?:^|/)(?:asynq-ttl|asynq_ttl|asynq_ttl/__main__\.py)$")


# What the system can have as the number of a process.
_MOST = 2**31 - 1


@click.command()
@click.option(
    "--pid",
    type=click.IntRange(min=1, max=_MOST),
    default=1,
    show_default=True,
    help="The process; in a container it is 1.",
)
@click.option(
    "--timeout",
    type=Amount(),
    default=30.0,
    show_default=True,
    help="Seconds to wait until it has ended.",
)
def drain(pid: int, timeout: float) -> None:
    """Tell a running sidecar to drain, and wait until it has ended. Linux only."""
    try:
        process = os.pidfd_open(pid)
    except OSError as error:
        fail(f"there is no process {pid}: {error.strerror}")
    try:
        # Looked at after the process is held fast, so that it is this one that gets the signal.
        if not _is_sidecar(pid):
            fail(f"process {pid} is no asynq-ttl serve")
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not select.select([process], [], [], timeout)[0]:
            fail(f"process {pid} has not ended within {timeout:g} s")
    except PermissionError as error:
        fail(f"process {pid} belongs to somebody else: {error.strerror}")
    finally:
        os.close(process)
    say("drained")


def _is_sidecar(pid: int) -> bool:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return b"serve" in words and any(map(_PROGRAM.search, words))
