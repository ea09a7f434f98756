"""Measure what the sidecar costs beside HAProxy and a direct connection.

    python bench/run.py --preset quick

README.md beside this file tells what is measured.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

# The folder `tests` has the parts: servers, the sidecar as a process, Asynq, an OTLP receiver.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from asynq_load import AsynqLoad
from comparison import Figures, Sample, measure
from contestants import CONTESTANTS, SERVERS, MissingProgramError, start, start_server
from environment import environment
from report import comparison_table

from asynq import Harness
from asynq_ttl.harness import HarnessError, build_harness

_QUICK = ("direct", "haproxy", "asynq-ttl-traced")
_LOADS = ("asynq", "asynq-together")


@click.command(help=__doc__, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rounds", type=click.IntRange(min=1), default=5, help="How often each contestant is measured.")
@click.option("--tasks", type=click.IntRange(min=100), default=20_000, help="Tasks of an Asynq load.")
@click.option("--contestant", "contestants", type=click.Choice(list(CONTESTANTS)), multiple=True, default=_QUICK)
@click.option("--load", "loads", type=click.Choice(_LOADS), multiple=True, default=("asynq",))
@click.option("--server", type=click.Choice(list(SERVERS)), default="redis-7", help="The Redis behind them all.")
@click.option("--json", "file", type=click.Path(path_type=Path, dir_okay=False), help="Where to write all samples.")
def main(
    *, rounds: int, tasks: int, contestants: tuple[str, ...], loads: tuple[str, ...], server: str, file: Path | None
) -> None:
    """Measure and print."""
    asynq_loads = {load.name: load for load in (AsynqLoad(tasks), AsynqLoad(tasks, together=True))}
    samples: list[Sample] = []
    try:
        with Harness(build_harness()) as harness, Progress(console=Console(stderr=True), transient=True) as progress:

            def run(load: str, contestant: str) -> Figures:
                progress.update(bar, description=f"{load} through {contestant}")
                with start_server(server) as upstream, start(contestant, upstream) as running:
                    return asynq_loads[load].figures(running, harness)

            bar = progress.add_task("", total=rounds * len(contestants) * len(loads))
            for sample in measure(rounds, list(contestants), list(loads), run):
                samples.append(sample)
                progress.advance(bar)
        with start_server(server) as upstream:
            where = environment(upstream)
    except (MissingProgramError, HarnessError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(comparison_table(samples))
    if file is not None:
        result = {"environment": where, "samples": [asdict(sample) for sample in samples]}
        file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
