"""Measure what the sidecar costs beside HAProxy and a direct connection.

README.md beside this file tells what is measured and how.
"""

import signal
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

# The folder `tests` has the parts: servers, the sidecar as a process, Asynq, an OTLP receiver.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from asynq_load import SHARES, AsynqLoad
from commands_load import OneConnectionLoad, UnseenLoad, commands_loads
from comparison import Load, Measurement, Sample, measure, medians
from contestants import CONTESTANTS, SERVERS, MissingProgramError, start, start_server
from environment import environment
from plots import draw
from queues import queues_cost
from refusals import first_replies
from report import comparison_table, cost_table, report, target_table
from results import Results
from scale import scale_loads
from script_cost import script_costs

from asynq_ttl.demo.harness import HarnessError

_PRODUCTION = "asynq-ttl-traced"
_PROXIES = ("haproxy", "asynq-ttl", _PRODUCTION, "asynq-ttl-off")
_SATURATION_ROUNDS = 3
_results = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    help="A folder that keeps the samples for the report; those of the same load and contestant are replaced.",
)
_server = click.option(
    "--server", type=click.Choice(list(SERVERS)), default="redis-7", help="The Redis behind them all."
)
_rounds = click.option("--rounds", type=click.IntRange(min=1), default=5, help="How often each is measured.")
_tasks = click.option("--tasks", type=click.IntRange(min=100), default=20_000, help="Tasks of an Asynq load.")
_blocks = click.option("--blocks", type=click.IntRange(min=2), default=30, help="Blocks of calls, each way.")


@click.group(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
def main() -> None:
    """Dispatch."""


@main.command()
@click.option(
    "--contestant",
    "contestants",
    type=click.Choice(list(CONTESTANTS)),
    multiple=True,
    default=("direct", "haproxy", _PRODUCTION),
)
@click.option(
    "--load", "patterns", multiple=True, default=("asynq",), help="A load's name, or a pattern such as 'c*-64B'."
)
@_rounds
@_tasks
@_server
@_results
def compare(
    *,
    contestants: tuple[str, ...],
    patterns: tuple[str, ...],
    rounds: int,
    tasks: int,
    server: str,
    results: Path | None,
) -> None:
    """Apply loads through contestants in turn, and print medians and ratios."""
    _compare(_chosen(patterns, tasks), contestants, rounds, server, results)


def _compare(loads: list[Load], contestants: tuple[str, ...], rounds: int, server: str, results: Path | None) -> None:
    with start_server(server) as running:
        where = environment(running)
    samples: list[Sample] = []
    try:
        samples.extend(_measured(loads, list(contestants), rounds, server))
    finally:  # what was measured before an interruption is worth keeping
        if results is not None and samples:
            Results(results).add_samples(samples, where)
    click.echo(comparison_table(samples))


@main.command()
@click.option(
    "--contestant", "contestants", type=click.Choice(list(CONTESTANTS)), multiple=True, default=("haproxy", _PRODUCTION)
)
@click.option("--percent", "shares", type=click.IntRange(1, 100), multiple=True, default=SHARES, help="Of that rate.")
@click.option("--seconds", type=click.FloatRange(min=1), default=10, help="How long each rate is applied.")
@_rounds
@_tasks
@_server
@_results
def latency(
    *,
    contestants: tuple[str, ...],
    shares: tuple[int, ...],
    seconds: float,
    rounds: int,
    tasks: int,
    server: str,
    results: Path | None,
) -> None:
    """Find the rate that HAProxy is saturated at, apply shares of it, and print the latencies.

    Clients do not wait for each other (open loop): a latency counts from when a task was due.
    """
    together = list(_measured([AsynqLoad(tasks, together=True)], ["haproxy"], _SATURATION_ROUNDS, server))
    most = medians(together, together[0].load, "haproxy")["tasks_per_second"]
    click.echo(f"HAProxy is saturated at {most:,.0f} tasks a second")
    loads: list[Load] = []
    for percent in shares:
        rate = most * percent / 100
        loads.append(AsynqLoad(int(rate * seconds), together=True, rate=rate, percent=percent))
    _compare(loads, contestants, rounds, server, results)


@main.command()
@_tasks
def loads(*, tasks: int) -> None:
    """List the loads."""
    for load in _loads(tasks):
        click.echo(load.name)


@main.command()
@_blocks
@_server
@_results
def scripts(*, blocks: int, server: str, results: Path | None) -> None:
    """Measure what Redis spends on each wrapped script, beside the original."""
    costs = script_costs(server, blocks)
    click.echo(cost_table(costs))
    if results is not None:
        Results(results).add_costs(server, costs)


@main.command()
@_server
@_results
def refusals(*, server: str, results: Path | None) -> None:
    """Show what twemproxy answers to the first commands of go-redis and of Asynq."""
    with start_server(server) as upstream, start("twemproxy", upstream) as running:
        replies = first_replies(running)
    for command, reply in replies:
        click.echo(f"{command:90} {reply}")
    if results is not None:
        Results(results).add_refusals(replies)


@main.command("queues")
@click.option("--queues", "counts", type=click.IntRange(min=1), multiple=True, default=(1, 5_000, 20_000))
@click.option("--seconds", type=click.FloatRange(min=1), default=60, help="For how long each is measured.")
@click.option("--bogus", is_flag=True, help="Names in asynq:queues only, without keys.")
@_server
def queues_(*, counts: tuple[int, ...], seconds: float, bogus: bool, server: str) -> None:
    """Measure what an idle sidecar and its Redis cost where there are many queues."""
    for count in counts:
        cost = queues_cost(server, count, seconds, bogus=bogus)
        click.echo(
            f"{cost.queues} queues: sidecar {cost.sidecar_percent} %, Redis {cost.redis_percent} % of a core"
            f" ({cost.redis_alone_percent} % without a sidecar)"
        )


@main.command("report")
@_server
@click.option("--results", type=click.Path(path_type=Path, file_okay=False, exists=True), required=True)
def report_(*, server: str, results: Path) -> None:
    """Write report.md and the plots of a folder of results, and print the targets."""
    found = Results(results)
    (results / "report.md").write_text(report(found, server))
    for file in draw(found.samples, results):
        click.echo(file)
    click.echo(target_table(found.samples, found.costs.get(server, [])))


@main.command("all")
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), default=Path("bench/results"))
@_rounds
@_tasks
@_blocks
@_server
@click.pass_context
def all_(context: click.Context, *, results: Path, rounds: int, tasks: int, blocks: int, server: str) -> None:
    """Measure everything and write the report."""
    common = {"results": results, "server": server}
    both = ("direct", *_PROXIES)
    for contestants, patterns in (
        (both, ("asynq*",)),
        ((*both, "twemproxy"), ("one-connection", "c[0-9]*")),
        (("forwarder", *both), ("unseen",)),
        (("direct", "haproxy", "asynq-ttl", _PRODUCTION), _SCALE),
    ):
        context.invoke(compare, contestants=contestants, patterns=patterns, rounds=rounds, tasks=tasks, **common)
    context.invoke(
        latency, contestants=("direct", "haproxy", _PRODUCTION), shares=SHARES, rounds=rounds, tasks=tasks, **common
    )
    context.invoke(scripts, blocks=blocks, **common)
    context.invoke(refusals, **common)
    context.invoke(report_, **common)


@main.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.pass_context
def smoke(context: click.Context, *, results: Path) -> None:
    """Run a little of everything that needs no Debian package, to see that it works. Its figures mean nothing."""
    common = {"results": results, "server": "redis-6"}
    contestants, patterns = ("direct", "asynq-ttl-traced"), ("asynq", "one-connection", "idle")
    context.invoke(compare, contestants=contestants, patterns=patterns, rounds=1, tasks=500, **common)
    context.invoke(scripts, blocks=2, **common)
    context.invoke(report_, **common)


_SCALE = tuple(load.name for load in scale_loads())


def _loads(tasks: int) -> list[Load]:
    asynq_loads = [AsynqLoad(tasks), AsynqLoad(tasks, together=True), AsynqLoad(tasks, known=True)]
    return [*asynq_loads, OneConnectionLoad(), UnseenLoad(), *commands_loads(), *scale_loads()]


def _chosen(patterns: tuple[str, ...], tasks: int) -> list[Load]:
    chosen = []
    for pattern in patterns:
        matching = [load for load in _loads(tasks) if fnmatch(load.name, pattern)]
        if not matching:
            raise click.BadParameter(f"no load is called {pattern!r}; `run.py loads` lists them", param_hint="--load")
        chosen += matching
    return chosen


def _measured(loads: list[Load], contestants: list[str], rounds: int, server: str) -> Iterator[Sample]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=rounds * len(contestants) * len(loads))

        def run(load: Load, contestant: str) -> Measurement:
            progress.update(bar, description=f"{load.name} through {contestant}")
            with start_server(server) as upstream, start(contestant, upstream) as running:
                return load.measure(running)

        for sample in measure(range(rounds), contestants, loads, run):
            yield sample
            progress.advance(bar)


def _run() -> None:
    # So that what was started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("run.py: terminated"))
    try:
        main()
    except (MissingProgramError, HarnessError) as error:
        sys.exit(f"run.py: {error}")


if __name__ == "__main__":
    _run()
