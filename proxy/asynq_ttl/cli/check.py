"""`asynq-ttl check`: whether a policy file is valid."""

from pathlib import Path

import click

from asynq_ttl.cli.policy_option import load
from asynq_ttl.cli.standard_output import say


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a policy FILE. Exits with 0 if it is valid, else with 2 and every fault on a line of its own."""
    policy = load(file)
    say(f"{file}: valid, {len(policy.rules)} rules, mode {policy.mode.value}")
