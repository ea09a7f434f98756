"""`asynq-ttl clean`: deletes archived or completed tasks by filter."""

from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from asynq_ttl.cli.changing import Changes, Run, apply_option, changes, run_options, told_filter
from asynq_ttl.cli.options import Choice, FilePath, fail
from asynq_ttl.cli.progress_bar import progress_bar
from asynq_ttl.cli.tool_options import (
    TERMINAL,
    Duration,
    Pattern,
    check_types,
    connected,
    end_whole,
    note,
    queue_option,
    rate_option,
    type_option,
    upstream_option,
)
from asynq_ttl.existing_keys.clean import Clean, CleanFilter
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.needed_rights import CHANGING
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.task_file import TaskFile
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob


@click.command()
@upstream_option
@click.option(
    "--state", "states", type=Choice(TERMINAL), multiple=True, required=True, help="Tasks in this state; repeatable."
)
@queue_option
@type_option
@click.option(
    "--error", "errors", type=Pattern(), multiple=True, help="Only tasks whose last error matches; repeatable."
)
@click.option("--older-than", type=Duration(), help="Only tasks that died or completed so long ago, such as 7d.")
@click.option(
    "--export",
    type=FilePath(dir_okay=False),
    help="A new file that gets each task as a JSON line before it is deleted.",
)
@apply_option
@rate_option
@run_options
def clean(
    *,
    upstream: address.Upstream,
    states: tuple[str, ...],
    queues: tuple[Glob, ...],
    types: tuple[Glob, ...],
    errors: tuple[Glob, ...],
    older_than: int | None,
    export: Path | None,
    rate: float,
    run: Run,
) -> None:
    """Delete archived or completed tasks that match. A dry run unless --apply. What is held stays."""
    run.check()
    wanted = CleanFilter(TaskFilter(queues, types, states), errors, older_than)
    told = {
        "tool": "clean",
        "upstream": str(upstream),
        "apply": run.apply,
        **told_filter(wanted.tasks),
        "errors": [glob.text for glob in errors],
        "older_than": older_than,
        "export": str(export or ""),
    }
    with connected(upstream, rate, wanted.tasks, changing=CHANGING if run.apply else None) as (database, found):
        if not run.resume:
            check_types(database, types)
        seen = _clean(database, wanted, run, told, export, found)
        note(_met(seen))
        if export is not None and not run.apply:
            note(f"{export} is written with --apply")
        end_whole(database.left_out.notes())


def _clean(  # noqa: PLR0917 - one call
    database: Database, wanted: CleanFilter, run: Run, told: dict[str, Any], export: Path | None, queues: list[str]
) -> Counter[str]:
    """Walk through the queues, and return what was met."""
    with ExitStack() as stack:
        if export is not None and not run.resume and export.exists():
            # Told before a journal is begun, which would be in the way of the next try.
            fail(f"{export} is there already: name another file")
        made: Changes = stack.enter_context(changes(database, run, told))
        file = None
        if export is not None and run.apply:
            file = stack.enter_context(TaskFile(export, resume=run.resume))
        progress = stack.enter_context(progress_bar())
        bar = progress.add_task("clean", total=None)
        walk = Clean(
            database,
            wanted,
            made.changer,
            now=database.now() if made.now is None else made.now,
            file=file,
            advance=lambda count: progress.advance(bar, count),
        )
        indexes = walk.indexes(queues)
        progress.update(bar, total=sum(place.length for place in indexes))
        walk.run(indexes, made.position)
    return walk.seen


def _met(seen: Counter[str]) -> str:
    """Return what a run met, in words."""
    parts = [f"looked at {seen['tasks']:,} tasks"]
    if seen["held"]:
        parts.append(f"{seen['held']:,} that match are held, and stay")
    if seen["ghosts"]:
        parts.append(f"{seen['ghosts']:,} ghosts left (backfill --ghosts drop)")
    return "; ".join(parts)
