"""What `backfill` and `persist` share: options, the list of changes one by one, and the summary.

Both change keys that exist already, and only with --apply. A run with a --journal can be interrupted and resumed.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from asynq_ttl.cli.options import WRONG, FilePath, fail
from asynq_ttl.cli.printing import show
from asynq_ttl.cli.standard_output import say
from asynq_ttl.cli.tool_options import note
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import visible
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.run_journal import RunJournal
from asynq_ttl.policy.rules import SCHEDULER_HISTORY

apply_option = click.option("--apply", is_flag=True, help="Make the changes. Without it they are only told.")
_JOURNAL = click.option(
    "--journal",
    type=FilePath(dir_okay=False),
    help="A new file that gets a JSON line for each change (without --apply: for each that would be made).",
)
_RESUME = click.option("--resume", is_flag=True, help="Go on with the interrupted run that is in the --journal.")
_SHOW = click.option(
    "--show",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="How many changes are listed one by one.",
)


# Nobody reads a longer summary, and drawing one takes seconds.
_MOST_ROWS = 200


@dataclass(frozen=True, slots=True)
class Run:
    """How a command changes keys.

    Attributes:
        apply: whether it makes the changes, or only tells them.
        journal: the file that gets each change; None for none.
        resume: whether it goes on with the interrupted run that is in the journal.
        show: how many changes are listed one by one.
    """

    apply: bool
    journal: Path | None
    resume: bool
    show: int

    def check(self) -> None:
        """End the command if these options do not go together."""
        if self.resume and (self.journal is None or not self.apply):
            fail("--resume goes on with an --apply run: give --apply and the --journal it wrote", WRONG)


def run_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add --journal, --resume and --show. The command gets them and its --apply as one argument, `run`."""

    @functools.wraps(command)
    def folded(*, apply: bool, journal: Path | None, resume: bool, show: int, **others: Any) -> None:  # noqa: ANN401 - click's own
        command(run=Run(apply, journal, resume, show), **others)

    return _JOURNAL(_RESUME(_SHOW(folded)))


@dataclass(frozen=True, slots=True)
class Changes:
    """What a walk through the keys needs to change them.

    Attributes:
        changer: makes the changes, or tells them.
        now: Redis's time in seconds when the run began: of a resumed run, when it was first started. None without a
            journal, which would have to remember it.
        position: where the walk goes on; empty for the beginning.
    """

    changer: Changer
    now: int | None
    position: Sequence[str | int]


@contextmanager
def changes(database: Database, run: Run, told: dict[str, Any]) -> Iterator[Changes]:
    """Yield what a walk needs, and print the summary after it. A walk that is interrupted has none.

    Args:
        database: where the keys are.
        run: how they are changed.
        told: what the journal tells of the run. It can only be resumed with the same.

    Raises:
        JournalError: the journal cannot be written, or is of another run.
    """
    with ExitStack() as stack:
        journal = (
            stack.enter_context(RunJournal(run.journal, told, database.now(), resume=run.resume))
            if run.journal
            else None
        )
        listing = _Listing(run.show, apply=run.apply)
        changer = Changer(database, journal, apply=run.apply, show=listing)
        yield Changes(changer, journal.now if journal else None, changer.resume() if run.resume else ())
        listing.end()
        _print_summary(changer)
        if journal is not None and run.apply and database.left_out.elsewhere:
            journal.pause()
            note(f"what was left out can be done later: --resume with --journal {journal.path}")
        elif journal is not None:
            counts = [[*key, count] for key, count in sorted(changer.counts.items())]
            journal.end({"changed": counts, "left_alone": changer.missed})


def told_filter(wanted: TaskFilter) -> dict[str, list[str]]:
    """Return a filter as it stands in a journal."""
    return {
        "queues": [glob.text for glob in wanted.queues],
        "types": [glob.text for glob in wanted.types],
        "states": list(wanted.states),
    }


class _Listing:
    """Lists changes one by one, up to a number of them."""

    def __init__(self, most: int, *, apply: bool) -> None:
        self._most = most
        self._word = "" if apply else "would "
        self._listed = 0
        self._more = 0

    def __call__(self, change: Change) -> None:
        if self._listed >= self._most:
            self._more += 1
            return
        self._listed += 1
        parts = [f"{self._word}{change.action}", change.queue or "-", change.index or change.state or "-", change.id]
        if change.type:
            parts.append(change.type)
        parts.append(change.reason + (f", rule {change.rule}" if change.rule else ""))
        say("  ".join(visible(part) for part in parts))

    def end(self) -> None:
        """Say how many were not listed."""
        if self._more:
            say(f"... and {self._more:,} more; --journal FILE gets all of them")


def _print_summary(changer: Changer) -> None:
    """Print how many changes were made, or would be, by queue, state, rule and action."""
    title = "Changed" if changer.apply else "Dry run: --apply would change"
    total = sum(changer.counts.values())
    if not total:
        say("Nothing to change." if not changer.missed else "Nothing was changed.")
    else:
        tasks = total - sum(count for (_, state, *_), count in changer.counts.items() if state == SCHEDULER_HISTORY)
        parts = [f"{count:,} {word}" for count, word in ((tasks, "tasks"), (total - tasks, "histories")) if count]
        table = Table(title=f"{title} {' and '.join(parts)}", title_justify="left")
        for heading in ("queue", "state", "rule", "action"):
            table.add_column(heading)
        table.add_column("keys" if total > tasks else "tasks", justify="right")
        for (queue, state, rule, action), count in sorted(changer.counts.items())[:_MOST_ROWS]:
            names = (visible(queue) or "-", visible(state) or "none", rule or "-", action, f"{count:,}")
            table.add_row(*map(Text, names))
        show(table)
        if len(changer.counts) > _MOST_ROWS:
            say(f"... and {len(changer.counts) - _MOST_ROWS:,} rows more; --journal FILE gets every change")
    if changer.missed:
        note(f"{changer.missed:,} tasks were no longer what they had been, and were left alone")
