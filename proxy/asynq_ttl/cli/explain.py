"""`asynq-ttl explain`: what a policy does with a task."""

from pathlib import Path

import click

from asynq_ttl.asynq.keys import AMBIGUOUS, ambiguous
from asynq_ttl.cli.options import Choice, FilePath, option
from asynq_ttl.cli.policy_option import load
from asynq_ttl.cli.standard_output import say
from asynq_ttl.policy.explain import explain as explain_policy
from asynq_ttl.policy.rules import State


@click.command()
@option("--policy", type=FilePath(), help="The policy file. Default: the built-in policy.")
@click.option("--queue", required=True, help="The queue's name.")
@click.option("--type", "task_type", help="The task's type. Without it: a task whose message cannot be read.")
@click.option(
    "--state",
    type=Choice([state.value for state in State]),
    required=True,
    help="The terminal state; done: it succeeds without a Retention.",
)
def explain(policy: Path | None, queue: str, task_type: str | None, state: str) -> None:
    """Say what a policy does with a task, which rule decides and why."""
    loaded = load(policy)
    if ambiguous(queue):
        why = f"a name with {AMBIGUOUS} can be read as another queue's"
        say(f"queue {queue} is left alone: {why}. No rule decides about it")
        return
    for line in explain_policy(loaded, queue, task_type, State(state)):
        say(line)
