"""The commands that change keys which exist already: backfill and persist."""

import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from asynq_ttl.cli.options import WRONG, fail
from asynq_ttl.cli.tool_options import (
    STATES,
    TERMINAL,
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
from asynq_ttl.existing_keys.backfill import Backfill
from asynq_ttl.existing_keys.backfill_decisions import BackfillOptions, Ghosts, Orphans
from asynq_ttl.existing_keys.changes import Change, Changer
from asynq_ttl.existing_keys.findings import visible
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.persist import Persist
from asynq_ttl.existing_keys.run_journal import RunJournal
from asynq_ttl.net import address
from asynq_ttl.policy.glob import Glob
from asynq_ttl.policy.rules import Mode

_apply = click.option("--apply", is_flag=True, help="Make the changes. Without it they are only told.")
_journal = click.option(
    "--journal",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A new file that gets a JSON line for each change (without --apply: for each that would be made).",
)
_resume = click.option("--resume", is_flag=True, help="Go on with the interrupted run that is in the --journal.")
_show = click.option(
    "--show",
    type=click.IntRange(min=0),
    default=50,
    show_default=True,
    help="How many changes are listed one by one.",
)


@click.command()
@upstream_option
@policy_option
@_apply
@queue_option
@state_option(TERMINAL)
@type_option
@click.option(
    "--orphans",
    type=click.Choice([choice.value for choice in Orphans]),
    default=Orphans.LEAVE.value,
    show_default=True,
    help="What is done to terminal tasks that are in no index. `leave` does not look for them.",
)
@click.option(
    "--ghosts",
    type=click.Choice([choice.value for choice in Ghosts]),
    default=Ghosts.LEAVE.value,
    show_default=True,
    help="What is done to index entries whose task is gone, in another state, or without a message.",
)
@click.option("--from-now", is_flag=True, help="Count from now, not from when a task died or completed.")
@rate_option
@_journal
@_resume
@_show
def backfill(
    *,
    upstream: address.Upstream,
    policy: Path | None,
    apply: bool,
    queues: tuple[Glob, ...],
    states: tuple[str, ...],
    types: tuple[Glob, ...],
    orphans: str,
    ghosts: str,
    from_now: bool,
    rate: float,
    journal: Path | None,
    resume: bool,
    show: int,
) -> None:
    """Give tasks that are archived or completed already the TTL their policy says. A dry run unless --apply."""
    loaded = load(policy)
    if apply and loaded.mode is not Mode.ENFORCE:
        fail(
            f"{loaded.source} has mode: {loaded.mode.value}, so --apply must not carry it out: set mode: enforce", WRONG
        )
    _check_resume(journal, resume=resume, apply=apply)
    wish = BackfillOptions(Orphans(orphans), Ghosts(ghosts), from_now, TaskFilter(queues, types, states))
    run = {
        "tool": "backfill",
        "upstream": str(upstream),
        "policy": loaded.digest or loaded.source,
        "apply": apply,
        "orphans": orphans,
        "ghosts": ghosts,
        "from_now": from_now,
        **_told(wish.filter),
    }
    with ExitStack() as stack:
        database, found = stack.enter_context(connected(upstream, rate, wish.filter, changing=apply))
        if not resume:
            check_types(database, types)
        now = database.now()
        opened = stack.enter_context(RunJournal(journal, run, now, resume=resume)) if journal else None
        listing = _Listing(show, apply=apply)
        changer = Changer(database, opened, apply=apply, show=listing)
        position = changer.resume() if resume else ()
        with progress_bar() as progress:
            task = progress.add_task("backfill", total=None)
            walk = Backfill(
                database,
                loaded,
                wish,
                changer,
                now=opened.now if opened else now,
                advance=lambda count: progress.advance(task, count),
            )
            progress.update(task, total=walk.size(found))
            walk.run(found, position)
        listing.end()
        _summary(changer, opened)
        note(_met(walk.seen, wish))


@click.command()
@upstream_option
@_apply
@queue_option
@state_option(STATES)
@click.option(
    "--live", is_flag=True, help="Only tasks that are neither archived nor completed: none should have a TTL."
)
@type_option
@rate_option
@_journal
@_resume
@_show
def persist(
    *,
    upstream: address.Upstream,
    apply: bool,
    queues: tuple[Glob, ...],
    states: tuple[str, ...],
    live: bool,
    types: tuple[Glob, ...],
    rate: float,
    journal: Path | None,
    resume: bool,
    show: int,
) -> None:
    """Take TTLs off task keys again, of all tasks or some: the way back out. A dry run unless --apply."""
    _check_resume(journal, resume=resume, apply=apply)
    if live and states:
        fail("--live and --state exclude each other", WRONG)
    wanted = TaskFilter(queues, types, tuple(state for state in STATES if state not in TERMINAL) if live else states)
    run = {"tool": "persist", "upstream": str(upstream), "apply": apply, **_told(wanted)}
    with ExitStack() as stack:
        database, _ = stack.enter_context(connected(upstream, rate, wanted, changing=apply))
        if not resume:
            check_types(database, types)
        opened = stack.enter_context(RunJournal(journal, run, database.now(), resume=resume)) if journal else None
        listing = _Listing(show, apply=apply)
        changer = Changer(database, opened, apply=apply, show=listing)
        position = changer.resume() if resume else ()
        with progress_bar() as progress:
            task = progress.add_task("persist", total=database.client.dbsize())
            walk = Persist(database, wanted, changer, advance=lambda count: progress.advance(task, count))
            walk.run(position)
        listing.end()
        _summary(changer, opened)


def _check_resume(journal: Path | None, *, resume: bool, apply: bool) -> None:
    if resume and (journal is None or not apply):
        fail("--resume goes on with an --apply run: give --apply and the --journal it wrote", WRONG)


def _told(wanted: TaskFilter) -> dict[str, list[str]]:
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
        parts = [f"{self._word}{change.action}", change.queue, change.index or change.state or "-", change.id]
        if change.type:
            parts.append(change.type)
        parts.append(change.reason + (f", rule {change.rule}" if change.rule else ""))
        click.echo("  ".join(visible(part) for part in parts))

    def end(self) -> None:
        """Say how many were not listed."""
        if self._more:
            click.echo(f"... and {self._more:,} more; --journal FILE gets all of them")


def _summary(changer: Changer, journal: RunJournal | None) -> None:
    """Print how many changes were made, or would be, by queue, state, rule and action; end the journal."""
    title = "Changed" if changer.apply else "Dry run: --apply would change"
    total = sum(changer.counts.values())
    if not total:
        click.echo("Nothing to change." if not changer.missed else "Nothing was changed.")
    else:
        table = Table(title=f"{title} {total:,} tasks", title_justify="left")
        for heading in ("queue", "state", "rule", "action"):
            table.add_column(heading)
        table.add_column("tasks", justify="right")
        for (queue, state, rule, action), count in sorted(changer.counts.items()):
            table.add_row(visible(queue), state or "none", rule or "-", action, f"{count:,}")
        Console(width=None if sys.stdout.isatty() else 120).print(table)
    if changer.missed:
        note(f"{changer.missed:,} tasks were no longer what they had been, and were left alone")
    if journal is not None:
        counts = [[*key, count] for key, count in sorted(changer.counts.items())]
        journal.end({"changed": counts, "left_alone": changer.missed})


def _met(seen: Counter[str], wish: BackfillOptions) -> str:
    """Return what a backfill met, in words."""
    parts = [f"looked at {seen['tasks']:,} terminal tasks, {seen['timed']:,} of which have a TTL already"]
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
