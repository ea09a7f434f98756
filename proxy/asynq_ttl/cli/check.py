"""`asynq-ttl check`: whether a policy file is valid."""

from pathlib import Path

import click

from asynq_ttl.cli.options import FilePath
from asynq_ttl.cli.policy_option import load
from asynq_ttl.cli.standard_output import say
from asynq_ttl.times import format_duration


@click.command()
@click.argument("file", type=FilePath())
def check(file: Path) -> None:
    """Check a policy FILE. Exits with 0 if it is valid, else with 2 and every fault on a line of its own."""
    policy = load(file)
    kept = policy.scheduler_history
    histories = f", scheduler histories {format_duration(kept)}" if kept is not None else ""
    say(f"{file}: valid, {len(policy.rules)} rules, mode {policy.mode.value}{histories}")
