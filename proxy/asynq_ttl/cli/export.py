"""`asynq-ttl export`: archived and completed tasks as JSON lines."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from asynq_ttl.asynq.task import Task, ended_at
from asynq_ttl.asynq.task_json import task_line
from asynq_ttl.cli.options import Choice, FilePath, fail
from asynq_ttl.cli.progress_bar import progress_bar
from asynq_ttl.cli.standard_output import writing
from asynq_ttl.cli.tool_options import (
    TERMINAL,
    Duration,
    check_types,
    connected,
    end_whole,
    note,
    queue_option,
    rate_option,
    state_option,
    type_option,
    upstream_option,
)
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.named_files import named
from asynq_ttl.existing_keys.pages import TaskFilter, whole_tasks
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob


@click.command()
@upstream_option
@queue_option
@state_option(TERMINAL)
@type_option
@click.option("--older-than", type=Duration(), help="Only tasks that died or completed so long ago, such as 7d.")
@click.option(
    "--payload",
    type=Choice(["base64", "text"]),
    default="base64",
    show_default=True,
    help="How payloads and results are written; what is not UTF-8 is always base64.",
)
@click.option(
    "--output",
    type=FilePath(dir_okay=False, allow_dash=True),
    default="-",
    help="A new file. Default: standard output.",
)
@rate_option
def export(
    *,
    upstream: address.Upstream,
    queues: tuple[Glob, ...],
    states: tuple[str, ...],
    types: tuple[Glob, ...],
    older_than: int | None,
    payload: str,
    output: Path,
    rate: float,
) -> None:
    """Write archived and completed tasks as JSON lines, orphans included. Changes nothing."""
    wanted = TaskFilter(queues, types, states or TERMINAL)
    with connected(upstream, rate, wanted, changing=None) as (database, _), ExitStack() as stack:
        check_types(database, types)
        write = stack.enter_context(_opened(output))
        now = database.now()
        written = 0
        for task in _tasks(database, wanted):
            if task.record is None:
                database.left_out.add_unreadable()
            elif older_than is None or 0 < ended_at(task) <= now - older_than:
                written += 1
                write(json.dumps(task_line(task, task.record, text=payload == "text")) + "\n")
        stack.close()
        note(f"{written:,} tasks written")
        end_whole(database.left_out.notes())


def _tasks(database: Database, wanted: TaskFilter) -> Iterator[Task]:
    """Yield every task that is wanted, whole, with a progress bar."""
    with progress_bar() as progress:
        bar = progress.add_task("export", total=database.size())
        for task in whole_tasks(database, lambda count: progress.advance(bar, count)):
            if wanted.matches_queue(task.queue) and wanted.matches(task):
                yield task


@contextmanager
def _opened(output: Path) -> Iterator[Callable[[str], None]]:
    """Open a new file, or standard output; yield what writes to it."""
    if str(output) == "-":

        def to_stdout(text: str) -> None:
            with writing():
                sys.stdout.write(text)

        yield to_stdout
        with writing():
            sys.stdout.flush()
        return
    if output.exists() and not output.is_char_device():
        fail(f"{output} is there already: name another file")
    with named(output):
        file = output.open("a", encoding="utf-8")

    def to_file(text: str) -> None:
        with named(output):
            file.write(text)

    try:
        yield to_file
    finally:
        # A file writes what is left when it is closed.
        with named(output):
            file.close()
