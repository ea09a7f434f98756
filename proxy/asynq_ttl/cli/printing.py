"""How results are drawn for people: tables and texts on standard output, as wide as the terminal."""

import sys
from typing import Any

from rich.console import Console

from asynq_ttl.cli.standard_output import writing


class _Console(Console):
    """A console that leaves it to `writing` what happens if nobody reads any more."""

    def on_broken_pipe(self) -> None:
        """Raise what rich would have hidden."""
        raise BrokenPipeError


def console(*, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """Return a console for tables, as wide as the terminal, or 120 columns. Print within `writing`."""
    # Types of tasks are words with colons between them; some are names of pictures, such as `:key:`.
    width = None if sys.stdout.isatty() else 120
    return _Console(width=width, highlight=highlight, soft_wrap=soft_wrap, emoji=False)


def show(*parts: Any, highlight: bool = True) -> None:  # noqa: ANN401 - whatever rich can draw
    """Print tables and texts with rich's markup, each below the other."""
    with writing():
        for part in parts:
            console(highlight=highlight).print(part)
