"""`asynq-ttl persist`: takes TTLs off task keys again."""

import click

from asynq_ttl.cli.changing import Run, apply_option, changes, run_options, told_filter
from asynq_ttl.cli.options import WRONG, fail
from asynq_ttl.cli.progress_bar import progress_bar
from asynq_ttl.cli.tool_options import (
    STATES,
    TERMINAL,
    check_types,
    connected,
    end_whole,
    queue_option,
    rate_option,
    state_option,
    type_option,
    upstream_option,
)
from asynq_ttl.existing_keys.needed_rights import CHANGING
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.persist import Persist
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob


@click.command()
@upstream_option
@apply_option
@queue_option
@state_option(STATES)
@click.option(
    "--live", is_flag=True, help="Only tasks that are neither archived nor completed: none should have a TTL."
)
@type_option
@rate_option
@run_options
def persist(
    *,
    upstream: address.Upstream,
    queues: tuple[Glob, ...],
    states: tuple[str, ...],
    live: bool,
    types: tuple[Glob, ...],
    rate: float,
    run: Run,
) -> None:
    """Take TTLs off task keys again, of all tasks or some: the way back out. A dry run unless --apply."""
    run.check()
    if live and states:
        fail("--live and --state exclude each other", WRONG)
    wanted = TaskFilter(queues, types, tuple(state for state in STATES if state not in TERMINAL) if live else states)
    told = {"tool": "persist", "upstream": str(upstream), "apply": run.apply, **told_filter(wanted)}
    with connected(upstream, rate, wanted, changing=CHANGING if run.apply else None) as (database, _):
        if not run.resume:
            check_types(database, types)
        with changes(database, run, told) as made, progress_bar() as progress:
            bar = progress.add_task("persist", total=database.size())
            walk = Persist(database, wanted, made.changer, advance=lambda count: progress.advance(bar, count))
            walk.run(made.position)
        end_whole(database.left_out.notes())
