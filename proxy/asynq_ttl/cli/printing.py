"""Where the results of commands go: standard output, which may be closed before the end, or full.

Invariants:

* Whoever reads may stop at any time, as `head` does: the command ends without a word, with the status of a program that
  SIGPIPE ended.
* What cannot be written otherwise is told in one line that names standard output.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from rich.console import Console

from asynq_ttl.cli.options import fail

CLOSED = 141
"""The exit status where nobody reads any more: 128 and the number of SIGPIPE."""


class _Console(Console):
    """A console that leaves it to `printing` what happens if nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would have hidden."""
        raise BrokenPipeError


@contextmanager
def printing() -> Iterator[None]:
    """Write to standard output, and end the command where that cannot be done."""
    try:
        yield
    except BrokenPipeError:
        _give_up()
        raise SystemExit(CLOSED) from None
    except OSError as error:
        _give_up()
        fail(f"standard output: {error.strerror}")


def say(text: str) -> None:
    """Print a line."""
    with printing():
        click.echo(text)


def console(*, highlight: bool = True) -> Console:
    """Return a console for tables, as wide as the terminal, or 120 columns. Print within `printing`."""
    return _Console(width=None if sys.stdout.isatty() else 120, highlight=highlight)


def show(*parts: Any, highlight: bool = True) -> None:  # noqa: ANN401 - whatever rich can draw
    """Print tables and texts with rich's markup, each below the other."""
    with printing():
        for part in parts:
            console(highlight=highlight).print(part)


def _give_up() -> None:
    """Let nobody try again, when the process ends, to write what could not be written."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
