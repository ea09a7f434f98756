"""`asynq-ttl doctor`: what is wrong with a set-up."""

from pathlib import Path

import click

from asynq_ttl.cli.printing import console
from asynq_ttl.cli.standard_output import say, writing
from asynq_ttl.cli.tool_options import (
    load,
    policy_option,
    rate_option,
    reached,
    upstream_option,
)
from asynq_ttl.existing_keys.doctor.doctor import examine
from asynq_ttl.existing_keys.findings import findings_json, print_findings, worst
from asynq_ttl.net import address


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
    with reached(upstream, rate) as database:
        findings = examine(database, loaded, database.queues(), sample)
    if json_wanted:
        say(findings_json(str(upstream), findings))
    else:
        with writing():
            print_findings(findings, console())
    raise SystemExit(worst(findings).status)
