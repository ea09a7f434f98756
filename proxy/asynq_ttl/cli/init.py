"""`asynq-ttl init`: writes a policy to start with, from what is in a database."""

from pathlib import Path

import click

from asynq_ttl.cli.audit import audited
from asynq_ttl.cli.options import FAILED, FilePath, fail
from asynq_ttl.cli.standard_output import say
from asynq_ttl.cli.tool_options import note, rate_option, upstream_option
from asynq_ttl.existing_keys.named_files import FileError, named
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.existing_keys.starting_policy import Inventory, left_out, starting_policy
from asynq_ttl.existing_keys.type_census import TypeCensus
from asynq_ttl.net import address
from asynq_ttl.policy.rules import DEFAULT_POLICY
from asynq_ttl.policy_file.load import parse_policy


@click.command()
@upstream_option
@click.option("--output", type=FilePath(dir_okay=False), help="A new file. Default: standard output.")
@rate_option
def init(*, upstream: address.Upstream, output: Path | None, rate: float) -> None:
    """Write a commented policy to start with, from what is there. Changes nothing, and writes over no file.

    As it is written the policy changes nothing either. What could be saved stands in it as comments.
    """
    if output is not None and output.exists():
        fail(_TAKEN.format(output))
    census = TypeCensus()
    report = audited(upstream, DEFAULT_POLICY, TaskFilter(), None, rate, also=census.count)
    text = starting_policy(Inventory(report, census))
    parse_policy(text, str(output or "init"))
    if output is None:
        say(text.removesuffix("\n"))
    else:
        try:
            with named(output):
                _write_new(output, text)
        except FileError as error:
            fail(str(error))
        note(f"written to {output}")
    unseen = left_out(report)
    for line in unseen:
        note(line)
    if unseen:
        raise SystemExit(FAILED)


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet; what cannot be written whole is not there afterwards either."""
    with path.open("xb") as file:
        try:
            file.write(text.encode())
            file.flush()
        except OSError:
            path.unlink()
            raise


_TAKEN = "{} is there already: name another file"
