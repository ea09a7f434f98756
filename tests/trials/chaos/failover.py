"""Fail masters over under a real Asynq load, through the sidecar and without it, and count what became of the tasks.

    python tests/trials/chaos/failover.py --rounds 20 --strike kill --strike ask
    python tests/trials/chaos/failover.py --cluster --rounds 5 --strike reshard

Prints a line for each failover and a table at the end. Exit status: 0 nothing went wrong through the sidecar, else 1.
`trial.py` and `cluster_trial.py` tell what is done, `account.py` what is proved.
"""

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

# The folder `tests`, for when this file is run as a program.
sys.path[0] = str(Path(__file__).resolve().parents[2])

import click  # noqa: E402 - it stands with those that are found only from here on

from trials.chaos.cluster_trial import CLUSTER_STRIKES, ClusterTrial  # noqa: E402 - likewise
from trials.chaos.trial import ONE_PORT, STRIKES, WAYS, Plan, Report, Trial, report_of  # noqa: E402 - likewise

_COLUMNS = (
    "strike",
    "way",
    "failovers",
    "accepted",
    "acknowledged",
    "lost",
    "not replicated",
    "active after",
    "run twice",
    "standstill s",
    "refusals",
)


@click.command()
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True, help="Failovers of each kind.")
@click.option("--cluster", is_flag=True, help="A cluster with Asynq's cluster client, not a master with Sentinels.")
@click.option(
    "--strike",
    "strikes",
    type=click.Choice(tuple(dict.fromkeys((*STRIKES, *CLUSTER_STRIKES)))),
    multiple=True,
    help="Default: kill, hang and ask; with --cluster kill, reshard and nodes.",
)
@click.option("--way", "ways", type=click.Choice((*WAYS, ONE_PORT)), multiple=True, default=WAYS)
@click.option("--tasks", type=click.IntRange(min=1000), default=2000, show_default=True, help="Tasks of each load.")
@click.option(
    "--wait", is_flag=True, help="Kill the worker too, and wait until its leases are over (two minutes each)."
)
@click.option("--server", type=click.Choice(("redis", "valkey")), default="redis", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), help="Keep logs, ledgers and reports in this new folder.")
def main(
    *,
    cluster: bool,
    rounds: int,
    strikes: tuple[str, ...],
    ways: tuple[str, ...],
    tasks: int,
    wait: bool,
    server: str,
    folder: Path | None,
) -> None:
    """Fail masters over under a real Asynq load and account for every accepted task."""
    known, kind = (CLUSTER_STRIKES, ClusterTrial) if cluster else (STRIKES, Trial)
    strikes = strikes or (CLUSTER_STRIKES if cluster else ("kill", "hang", "ask"))
    if not set(strikes) <= set(known):
        raise click.UsageError(f"--strike is one of {', '.join(known)} here")
    if ONE_PORT in ways and not cluster:
        raise click.UsageError(f"--way {ONE_PORT} needs --cluster")
    found: dict[tuple[str, str], list[Report]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="failover-") as temporary:
        if folder is not None:
            folder.mkdir(parents=True)
        for number in range(rounds):
            for strike in strikes:
                for way in ways:
                    place = (folder or Path(temporary)) / f"{number}-{strike}-{way}"
                    place.mkdir()
                    began = time.monotonic()
                    report = report_of(Plan(way, strike, tasks, not wait, server, place), kind)
                    found[strike, way].append(report)
                    seconds = round(time.monotonic() - began)
                    click.echo(json.dumps({"strike": strike, "way": way, "seconds": seconds, **asdict(report)}))
                    if folder is None:
                        shutil.rmtree(place)
    for line in table(found):
        click.echo(line)
    broken = any(report.faults for (_, way), reports in found.items() if way != "direct" for report in reports)
    raise SystemExit(broken)


def table(found: dict[tuple[str, str], list[Report]]) -> list[str]:
    """Return all failovers as a table in Markdown: sums, and of the standstill the median and the longest."""
    lines = [f"| {' | '.join(_COLUMNS)} |", f"|{' --- |' * len(_COLUMNS)}"]
    for (strike, way), reports in found.items():
        still = [report.standstill_seconds for report in reports]
        names = ("accepted", "acknowledged", "lost", "unreplicated", "active", "repeated")
        sums = [f"{sum(getattr(report, name) for report in reports):,}" for name in (*names, "refusals")]
        times = f"{statistics.median(still):.1f} (at most {max(still):.1f})"
        lines.append(f"| {' | '.join([strike, way, str(len(reports)), *sums[:-1], times, sums[-1]])} |")
    return lines


if __name__ == "__main__":
    main()
