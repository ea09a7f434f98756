"""`asynq-ttl release`: gives tasks free that `hold` keeps."""

from pathlib import Path

import click

from asynq_ttl.cli.holding import held_arguments, tell_each
from asynq_ttl.cli.policy_option import load, policy_option
from asynq_ttl.cli.tool_options import connected, upstream_option
from asynq_ttl.existing_keys import holds
from asynq_ttl.existing_keys.needed_rights import HOLDING
from asynq_ttl.existing_keys.pages import TaskFilter
from asynq_ttl.net import address


@click.command()
@held_arguments
@upstream_option
@policy_option
def release(*, queue: str, task_ids: tuple[bytes, ...], upstream: address.Upstream, policy: Path | None) -> None:
    """Release tasks that are held. They get the TTL that the policy says; without --policy, the one they had.

    Prints a line for each. Exits with 0 if all were released.
    """
    loaded = load(policy) if policy is not None else None
    with connected(upstream, 0, TaskFilter(), changing=HOLDING) as (database, _):
        tell_each(holds.release(database, queue, task_ids, loaded))
