"""The commands that only look: audit, doctor and export."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console

from asynq_ttl.asynq.keys import index_key
from asynq_ttl.asynq.task import ended_at
from asynq_ttl.asynq.task_json import task_line
from asynq_ttl.cli.options import fail, option
from asynq_ttl.cli.tool_options import (
    TERMINAL,
    Duration,
    check_types,
    connected,
    load,
    note,
    policy_option,
    progress_bar,
    queue_option,
    rate_option,
    state_option,
    type_option,
    upstream_option,
)
from asynq_ttl.existing_keys.audit.audit import Audit, Checkpoint
from asynq_ttl.existing_keys.audit.forecast import forecast
from asynq_ttl.existing_keys.audit.report import Report, as_html, as_json, findings_json, print_findings, print_report
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.doctor.doctor import examine
from asynq_ttl.existing_keys.findings import worst
from asynq_ttl.existing_keys.pages import Filter, task_pages
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob


@click.command()
@upstream_option
@policy_option
@queue_option
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of tables.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a report with plots to this file."
)
@option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
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
    wanted = Filter(queues)
    if html is not None:
        # Told before the walk, not after it.
        _write(html, "")
    started = time.monotonic()
    with connected(upstream, rate, wanted, changing=False) as (database, found):
        server = database.server()
        run = {
            "upstream": str(upstream),
            "server": server.run_id,
            "policy": loaded.digest or loaded.source,
            "queues": [glob.text for glob in queues],
        }
        with progress_bar() as progress:
            bar = progress.add_task("audit", total=_size(database, found, wanted))
            walk = Audit(
                database,
                loaded,
                wanted,
                Checkpoint(checkpoint, run),
                advance=lambda count: progress.advance(bar, count),
            )
            findings = walk.run(found)
    report = Report(
        upstream=str(upstream),
        server=server.name,
        policy=loaded.source,
        now=walk.now,
        seconds=time.monotonic() - started,
        tally=walk.tally,
        findings=findings,
        forecast=forecast(walk.tally, loaded),
    )
    if json_wanted:
        click.echo(as_json(report))
    else:
        print_report(report, Console(width=None if sys.stdout.isatty() else 120))
    if html is not None:
        _write(html, as_html(report))
        note(f"written to {html}")
    raise SystemExit(worst(findings).status)


@click.command()
@upstream_option
@policy_option
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON instead of text.")
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="The most tasks looked at to learn which types there are.",
)
@rate_option
def doctor(*, upstream: address.Upstream, policy: Path | None, json_wanted: bool, sample: int, rate: float) -> None:
    """Check a set-up: server, rights, clients, clocks, and the policy against what exists. Changes nothing.

    Exits with 0 if nothing needs to be done, with 3 after a warning, with 4 if tasks can be lost.
    """
    loaded = load(policy)
    with connected(upstream, rate, Filter(), changing=False) as (database, found):
        findings = examine(database, loaded, found, sample)
    if json_wanted:
        click.echo(findings_json(str(upstream), findings))
    else:
        print_findings(findings, Console(width=None if sys.stdout.isatty() else 120))
    raise SystemExit(worst(findings).status)


@click.command()
@upstream_option
@queue_option
@state_option(TERMINAL)
@type_option
@click.option("--older-than", type=Duration(), help="Only tasks that died or completed so long ago, such as 7d.")
@click.option(
    "--payload",
    type=click.Choice(["base64", "text"]),
    default="base64",
    show_default=True,
    help="How payloads and results are written; what is not UTF-8 is always base64.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
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
    wanted = Filter(queues, types, states or TERMINAL)
    with ExitStack() as stack, connected(upstream, rate, wanted, changing=False) as (database, _):
        check_types(database, types)
        file = stack.enter_context(_opened(output))
        now = database.now()
        written = unread = 0
        with progress_bar() as progress:
            bar = progress.add_task("export", total=database.client.dbsize())
            for _, page in task_pages(database, "whole"):
                progress.advance(bar, len(page))
                for task in page:
                    if not wanted.queue(task.queue) or not wanted.matches(task):
                        continue
                    if task.record is None:
                        unread += 1
                    elif older_than is None or 0 < ended_at(task) <= now - older_than:
                        written += 1
                        file.write(json.dumps(task_line(task, task.record, text=payload == "text")) + "\n")
    note(f"{written:,} tasks written" + (f"; {unread:,} whose message cannot be read were left out" if unread else ""))


@contextmanager
def _opened(output: Path) -> Iterator[TextIO]:
    """Open a new file, or standard output."""
    if str(output) == "-":
        yield sys.stdout
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            yield file
    except FileExistsError:
        fail(f"{output} is there already: name another file")
    except OSError as error:
        fail(f"{output}: {error.strerror}")


def _size(database: Database, queues: list[str], wanted: Filter) -> int:
    """Return about how many keys and entries an audit looks at."""
    total: Any = database.client.dbsize()
    for queue in filter(wanted.queue, queues):
        for state in ("archived", "completed", "scheduled", "retry"):
            total += database.client.zcard(index_key(queue, state))
        total += database.client.llen(index_key(queue, "pending"))
    return int(total)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{path}: {error.strerror}")
