"""What the commands about existing keys share: options and the connection.

Results go to standard output; progress, notes and errors go to standard error.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import asynq_ttl.telemetry.first_import  # noqa: F401 - before redis-py, which imports OpenTelemetry too
from asynq_ttl.cli.options import FAILED, Amount, Choice, Command, FilePath, Parsed, fail, option
from asynq_ttl.cli.standard_output import tell
from asynq_ttl.existing_keys.clients import DatabaseError, explained
from asynq_ttl.existing_keys.cluster.database import database_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.named_files import FileError
from asynq_ttl.existing_keys.needed_rights import Need
from asynq_ttl.existing_keys.pages import TaskFilter, task_pages
from asynq_ttl.net import address
from asynq_ttl.net.secret_file import SecretFileError, read_secret
from asynq_ttl.policy.glob import Glob, compile_glob
from asynq_ttl.times import parse_duration

STATES = ("pending", "active", "scheduled", "retry", "aggregating", "archived", "completed")
TERMINAL = ("archived", "completed")
# Of so many types the names are remembered, to say which there are where the one that was asked for is not.
_MOST_TYPES = 1000
_FROM_FILE = "asynq_ttl.upstream_password_file"


class _Url(click.ParamType[address.Upstream]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> address.Upstream:  # noqa: ANN401 - click's signature
        if isinstance(value, address.Upstream):
            return value
        file = ctx.meta.get(_FROM_FILE) if ctx is not None else None
        try:
            upstream = address.parse_upstream(value)
            return replace(upstream, password=read_secret(file, once=True)) if file is not None else upstream
        except SecretFileError as error:
            self.fail(f"the password file {error}", param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Pattern(Parsed[Glob]):
    """A glob."""

    name = "glob"
    kind = Glob
    parse = staticmethod(compile_glob)
    quotes = True


class Duration(Parsed[int]):
    """A duration such as `7d`, in seconds."""

    name = "duration"
    kind = int
    parse = staticmethod(parse_duration)


def _note_password(ctx: click.Context, _: click.Parameter, file: Path | None) -> None:
    ctx.meta[_FROM_FILE] = file


def upstream_option(command: Command) -> Command:
    """Add the options that say which database is meant."""
    text = "The Redis itself, past any sidecar, and the number of the database."
    command = option("--upstream", type=_Url(), default="redis://127.0.0.1:6379/0", help=text)(command)
    return option(
        "--upstream-password-file",
        type=FilePath(dir_okay=False),
        help="A file with the password, instead of in the URL.",
        callback=_note_password,
        is_eager=True,
        expose_value=False,
    )(command)


queue_option = click.option(
    "--queue", "queues", type=Pattern(), multiple=True, help="Only queues that match; repeatable."
)
type_option = click.option("--type", "types", type=Pattern(), multiple=True, help="Only types that match; repeatable.")
rate_option = option(
    "--rate",
    type=Amount(),
    default=30_000.0,
    help="The most keys looked at in a second; 0 for no limit.",
)


def state_option(names: tuple[str, ...]) -> Callable[[Command], Command]:
    """Return the option that picks among some states."""
    return click.option("--state", "states", type=Choice(names), multiple=True, help="Only this state; repeatable.")


@contextmanager
def connected(
    upstream: address.Upstream, rate: float, wanted: TaskFilter, *, changing: Need | None
) -> Iterator[tuple[Database, list[str]]]:
    """Open a database and yield it with the names of its queues. Any of its errors ends the command with one line.

    Args:
        upstream: where it is.
        rate: the most keys looked at in a second; 0 for no limit.
        wanted: what the command is asked about; a glob that matches no queue ends it too.
        changing: the rights that are needed besides, to change tasks; None for none.
    """
    with reached(upstream, rate) as database:
        queues = database.open(changing=changing)
        _check_queues(wanted.queues, queues + database.left_out.ambiguous + database.left_out.moving)
        yield database, queues


@contextmanager
def reached(upstream: address.Upstream, rate: float) -> Iterator[Database]:
    """Yield a database, of which nothing is asked yet. Any of its errors ends the command with one line.

    Args:
        upstream: where it is.
        rate: the most keys looked at in a second; 0 for no limit.
    """
    try:
        with explained(upstream), closing(database_of(upstream, rate)) as database:
            yield database
    except (DatabaseError, FileError) as error:
        fail(str(error))


def _check_queues(globs: tuple[Glob, ...], queues: list[str]) -> None:
    for glob in globs:
        if not any(glob.matches(queue) for queue in queues):
            fail(f"--queue {glob.text} matches no queue; there are {_some(queues)}")


def check_types(database: Database, globs: tuple[Glob, ...]) -> None:
    """End the command, before anything is done, if a glob matches the type of no task.

    Tasks are looked at only until each glob has matched one.
    """
    missing, seen = set(globs), set[str]()
    for _, page in task_pages(database) if missing else ():
        types = {task.type for task in page}
        missing = {glob for glob in missing if not any(glob.matches(task_type) for task_type in types)}
        if not missing:
            return
        if len(seen) < _MOST_TYPES:
            seen |= types
    for glob in sorted(missing, key=lambda glob: glob.text):
        fail(f"--type {glob.text} matches no task here; there are {_some(sorted(filter(None, seen)))}")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:10]) or "none"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


def end_whole(lines: Sequence[str]) -> None:
    """Say what a run left out, if anything: then the command ends with a status that says so.

    Args:
        lines: what was left out, as `LeftOut.notes` has it.
    """
    for line in lines:
        note(line)
    if lines:
        raise SystemExit(FAILED)


def note(text: str) -> None:
    """Print a line on standard error."""
    tell(text)
