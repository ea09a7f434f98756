"""The progress bar of the commands that look at many keys. The others do not wait for its import."""

import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress_bar() -> Progress:
    """Return a progress bar with rate and time left, on standard error if that is a terminal."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return _Paced(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        # Results that go to a file or a pipe must not end up above the bar.
        redirect_stdout=sys.stdout.isatty(),
    )


class _Paced(Progress):
    """A progress bar that also shows how many keys are looked at in a second."""

    def get_renderables(self) -> Iterator[Any]:
        for task in self.tasks:
            task.fields["rate"] = f"{task.speed or 0:,.0f}/s"
        yield from super().get_renderables()
