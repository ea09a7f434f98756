"""Standard output and error, which may be closed, or full. All commands run within `writing`.

`ready` and `--help` import it: nothing here costs time to import.

Invariants:

* Whoever reads may stop at any time, as `head` does: the command ends without a word, with the status of a program that
  SIGPIPE ended.
* What cannot be written otherwise is told in one line that names standard output.
* What is told on standard error ends nothing if it cannot be written.
* No file or connection gets the number of a standard stream that is closed: what is written there would end in it.
* An error that names a file, or is none of writing, is not standard output's and goes on.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress

import click

CLOSED = 141
"""The exit status where nobody reads any more: 128 and the number of SIGPIPE."""
_FULL = 1
_OF_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


@contextmanager
def writing() -> Iterator[None]:
    """Write to standard output, and end the command where that cannot be done."""
    try:
        yield
    except BrokenPipeError:
        _give_up()
        raise SystemExit(CLOSED) from None
    except OSError as error:
        if error.filename is not None or error.errno not in _OF_WRITING:
            raise
        _give_up()
        tell(f"standard output: {error.strerror}")
        raise SystemExit(_FULL) from None


def say(text: str) -> None:
    """Print a line."""
    with writing():
        click.echo(text)


def tell(text: str) -> None:
    """Print a line on standard error."""
    with suppress(OSError):
        click.echo(text, err=True)


def open_closed_streams() -> None:
    """Open each standard stream that the process was started without, at the null device."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            if number == 1:
                redirect_stdout(os.fdopen(number, "w")).__enter__()
            elif number == 2:
                redirect_stderr(os.fdopen(number, "w")).__enter__()


def _give_up() -> None:
    """Let nobody try again, when the process ends, to write what could not be written."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
