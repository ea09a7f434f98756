"""`asynq-ttl hold`: keeps ended tasks until they are released."""

import click

from asynq_ttl.cli.holding import held_arguments, tell_each
from asynq_ttl.cli.tool_options import connected, upstream_option
from asynq_ttl.existing_keys import holds
from asynq_ttl.existing_keys.needed_rights import HOLDING
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.net import address


@click.command()
@held_arguments
@upstream_option
def hold(*, queue: str, task_ids: tuple[bytes, ...], upstream: address.Upstream) -> None:
    """Hold archived or completed tasks: nobody removes them until they are released, run again or deleted by hand.

    Prints a line for each. Exits with 0 if all are held.
    """
    with connected(upstream, 0, TaskFilter(), changing=HOLDING) as (database, _):
        tell_each(holds.hold(database, queue, task_ids))
