"""Standard output, which may be closed before the end, or full. All commands run within `writing`.

`ready` and `--help` import it: nothing here costs time to import.

Invariants:

* Whoever reads may stop at any time, as `head` does: the command ends without a word, with the status of a program that
  SIGPIPE ended.
* What cannot be written otherwise is told in one line that names standard output.
* An error that names a file, or is none of writing, is not standard output's and goes on.
"""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

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
        with suppress(OSError):
            click.echo(f"standard output: {error.strerror}", err=True)
        raise SystemExit(_FULL) from None


def say(text: str) -> None:
    """Print a line."""
    with writing():
        click.echo(text)


def _give_up() -> None:
    """Let nobody try again, when the process ends, to write what could not be written."""
    with suppress(AttributeError, OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
