"""`asynq-ttl backfill`: gives tasks that are archived or completed already the TTL their policy says."""

from collections import Counter
from pathlib import Path

import click

from asynq_ttl.cli.changing import Changes, Run, apply_option, changes, run_options, told_filter
from asynq_ttl.cli.options import WRONG, Choice, fail
from asynq_ttl.cli.policy_option import load, policy_option
from asynq_ttl.cli.progress_bar import progress_bar
from asynq_ttl.cli.tool_options import (
    TERMINAL,
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
from asynq_ttl.existing_keys.backfill import Backfill
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Ghosts, Orphans
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.needed_rights import CHANGING
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.rules import Mode, Policy


@click.command()
@upstream_option
@policy_option
@apply_option
@queue_option
@state_option(TERMINAL)
@type_option
@click.option(
    "--orphans",
    type=Choice([choice.value for choice in Orphans]),
    default=Orphans.LEAVE.value,
    show_default=True,
    help="What is done to terminal tasks that are in no index. `leave` does not look for them.",
)
@click.option(
    "--ghosts",
    type=Choice([choice.value for choice in Ghosts]),
    default=Ghosts.LEAVE.value,
    show_default=True,
    help="What is done to index entries whose task is gone, in another state, or without a message.",
)
@click.option("--from-now", is_flag=True, help="Count from now, not from when a task died or completed.")
@rate_option
@run_options
def backfill(
    *,
    upstream: address.Upstream,
    policy: Path | None,
    queues: tuple[Glob, ...],
    states: tuple[str, ...],
    types: tuple[Glob, ...],
    orphans: str,
    ghosts: str,
    from_now: bool,
    rate: float,
    run: Run,
) -> None:
    """Give tasks that are archived or completed already the TTL their policy says. A dry run unless --apply."""
    loaded = load(policy)
    if run.apply and loaded.mode is not Mode.ENFORCE:
        fail(
            f"{loaded.source} has mode: {loaded.mode.value}, so --apply must not carry it out: set mode: enforce", WRONG
        )
    run.check()
    wish = BackfillOptions(Orphans(orphans), Ghosts(ghosts), from_now, TaskFilter(queues, types, states))
    told = {
        "tool": "backfill",
        "upstream": str(upstream),
        "policy": loaded.digest or loaded.source,
        "apply": run.apply,
        "orphans": orphans,
        "ghosts": ghosts,
        "from_now": from_now,
        **told_filter(wish.filter),
    }
    with connected(upstream, rate, wish.filter, changing=CHANGING if run.apply else None) as (database, found):
        if not run.resume:
            check_types(database, types)
        with changes(database, run, told) as made:
            seen = _walk(database, loaded, wish, made, found)
        note(_met(seen, wish))
        end_whole(database.left_out.notes())


def _walk(database: Database, policy: Policy, wish: BackfillOptions, made: Changes, queues: list[str]) -> Counter[str]:
    """Walk through the queues, and return what was met."""
    with progress_bar() as progress:
        bar = progress.add_task("backfill", total=None)
        walk = Backfill(
            database,
            policy,
            wish,
            made.changer,
            now=database.now() if made.now is None else made.now,
            advance=lambda count: progress.advance(bar, count),
        )
        progress.update(bar, total=walk.size(queues))
        walk.run(queues, made.position)
    return walk.seen


def _met(seen: Counter[str], wish: BackfillOptions) -> str:
    """Return what a backfill met, in words."""
    parts = [f"looked at {seen['tasks']:,} terminal tasks, {seen['timed']:,} of which have a TTL already"]
    if seen["held"]:
        parts.append(f"{seen['held']:,} held, which stay")
    if seen["ghosts"]:
        left = " left (--ghosts drop)" if wish.ghosts is Ghosts.LEAVE else ""
        parts.append(f"{seen['ghosts']:,} ghosts{left}")
    if wish.orphans is Orphans.LEAVE:
        parts.append("orphans not looked for (--orphans)")
    elif seen["orphans"] or seen["halves"]:
        parts.append(f"{seen['orphans']:,} orphans, {seen['halves']:,} hashes without a message")
    if seen["unreadable"]:
        parts.append(f"{seen['unreadable']:,} tasks left whose message cannot be read")
    return "; ".join(parts)
