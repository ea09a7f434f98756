"""What `hold` and `release` share: which tasks are meant, and a line for each."""

from collections.abc import Iterable

import click

import asynq_ttl.telemetry.first_import  # noqa: F401 - before redis-py, which imports OpenTelemetry too
from asynq_ttl.asynq.keys import AMBIGUOUS, ambiguous, text_of
from asynq_ttl.cli.options import FAILED, Command
from asynq_ttl.cli.standard_output import say
from asynq_ttl.existing_keys.findings import visible
from asynq_ttl.existing_keys.holds import Told


def _queue(_ctx: click.Context, _param: click.Parameter, name: str) -> str:
    if not name or ambiguous(name):
        raise click.BadParameter(f"a name that is empty, or has {AMBIGUOUS} in it, can be read as another queue's")
    return name


def _ids(_ctx: click.Context, _param: click.Parameter, names: tuple[str, ...]) -> tuple[bytes, ...]:
    if not all(names):
        raise click.BadParameter("a task ID is empty")
    return tuple(name.encode("utf-8", "surrogateescape") for name in names)


def held_arguments(command: Command) -> Command:
    """Add the arguments that name a queue, and one or more of its tasks."""
    command = click.argument("task_ids", metavar="TASK_ID...", nargs=-1, required=True, callback=_ids)(command)
    return click.argument("queue", metavar="QUEUE", callback=_queue)(command)


def tell_each(told: Iterable[Told]) -> None:
    """Print what became of each task; end the command with a status that says whether all were done."""
    whole = True
    for task in told:
        say(f"{visible(text_of(task.id))}  {task.text}")
        whole = whole and task.done
    if not whole:
        raise SystemExit(FAILED)
