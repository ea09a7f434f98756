"""`asynq-ttl audit`: what is in a database and what is wrong with it."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from asynq_ttl.asynq.task import Task
from asynq_ttl.cli.options import FilePath, fail, option
from asynq_ttl.cli.policy_option import load, policy_option
from asynq_ttl.cli.printing import console
from asynq_ttl.cli.progress_bar import progress_bar
from asynq_ttl.cli.standard_output import say, writing
from asynq_ttl.cli.tool_options import connected, note, queue_option, rate_option, upstream_option
from asynq_ttl.existing_keys.audit.audit import Audit
from asynq_ttl.existing_keys.audit.checkpoint import Checkpoint
from asynq_ttl.existing_keys.audit.forecast import forecast
from asynq_ttl.existing_keys.audit.html_page import as_html
from asynq_ttl.existing_keys.audit.report import Report, as_json, print_report
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import worst
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.queue_places import queue_places
from asynq_ttl.existing_keys.refused import probe_key
from asynq_ttl.net import address
from asynq_ttl.net.bounded_file import write_whole
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.rules import Policy


@click.command()
@upstream_option
@policy_option
@queue_option
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of tables.")
@click.option("--html", type=FilePath(dir_okay=False), help="Also write a report with plots to this file.")
@option(
    "--checkpoint",
    type=FilePath(dir_okay=False),
    help="A file from which an audit that was interrupted goes on.",
)
@rate_option
def audit(
    *,
    upstream: address.Upstream,
    policy: Path | None,
    queues: tuple[Glob, ...],
    json_wanted: bool,
    html: Path | None,
    checkpoint: Path | None,
    rate: float,
) -> None:
    """Show what is in a database and what is wrong with it. Changes nothing.

    Exits with 0 if nothing needs to be done, with 3 after a warning, with 4 if tasks can be lost. The policy is what
    the forecast of memory supposes.
    """
    loaded = load(policy)
    if html is not None:
        # A file that cannot be written is told before the walk, not after it.
        _write(html, "")
    report = audited(upstream, loaded, TaskFilter(queues), checkpoint, rate)
    if json_wanted:
        say(as_json(report))
    else:
        with writing():
            print_report(report, console())
    if html is not None:
        _write(html, as_html(report))
        note(f"written to {html}")
    raise SystemExit(worst(report.findings).status)


def audited(
    upstream: address.Upstream,
    policy: Policy,
    wanted: TaskFilter,
    checkpoint: Path | None,
    rate: float,
    *,
    also: Callable[[Task, int], None] = lambda _task, _now: None,
) -> Report:
    """Walk through the database, and return what was found. Any error of it ends the command.

    Args:
        upstream: the database.
        policy: what the forecast supposes.
        wanted: which queues are concerned.
        checkpoint: the file from which an interrupted audit goes on; None for none.
        rate: the most keys looked at in a second; 0 for no limit.
        also: is called with each task, and with when the audit began.
    """
    started = time.monotonic()
    with connected(upstream, rate, wanted, changing=None) as (database, found):
        server = database.server()
        saved = _saved(checkpoint, upstream, policy, wanted, server.run_id)
        if database.refused(("MEMORY|USAGE",), probe_key(found)):
            note("memory is that of the tasks' content alone, without MEMORY USAGE: give the user +memory|usage")
        with progress_bar() as progress:
            bar = progress.add_task("audit", total=_size(database, found, wanted))
            advance = partial(progress.advance, bar)
            walk = Audit(database, policy, wanted, saved, advance=advance, also=also)
            findings = walk.run(found)
    seconds, ahead = time.monotonic() - started, forecast(walk.tally, policy)
    left_out = tuple(database.left_out.notes())
    return Report(str(upstream), server.name, policy.source, walk.now, seconds, walk.tally, findings, ahead, left_out)


def _saved(
    checkpoint: Path | None, upstream: address.Upstream, policy: Policy, wanted: TaskFilter, server_run: str
) -> Checkpoint:
    """Return where the walk is saved, for an audit of this very kind."""
    run = {
        "upstream": str(upstream),
        "server": server_run,
        "policy": policy.digest or policy.source,
        "queues": [glob.text for glob in wanted.queues],
    }
    return Checkpoint(checkpoint, run)


def _size(database: Database, queues: list[str], wanted: TaskFilter) -> int:
    """Return about how many keys and entries an audit looks at."""
    places = queue_places(database, [queue for queue in queues if wanted.matches_queue(queue)])
    return (database.size() or 0) + sum(place.length for place in places)


def _write(path: Path, text: str) -> None:
    try:
        write_whole(path, text.encode())
    except OSError as error:
        fail(f"{path}: {error.strerror}")
