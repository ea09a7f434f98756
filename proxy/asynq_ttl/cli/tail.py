"""The commands that ask, and change nothing: `check` and `explain` a policy, `tail` and `report` a running sidecar."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from asynq_ttl.cli.admin_client import AdminClientError, ask, line_of
from asynq_ttl.cli.admin_client import tail as watch
from asynq_ttl.cli.options import FAILED, Command, Listen, fail, option
from asynq_ttl.cli.report import compare, policy_in_force, tables
from asynq_ttl.cli.tool_options import load
from asynq_ttl.events import Action
from asynq_ttl.net import address
from asynq_ttl.policy.explain import explain as explain_policy
from asynq_ttl.policy.rules import Mode, State
from asynq_ttl.policy_file.load import parse_policy


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a policy FILE. Exits with 0 if it is valid, else with 2 and every fault on a line of its own."""
    policy = load(file)
    click.echo(f"{file}: valid, {len(policy.rules)} rules, mode {policy.mode.value}")


@click.command()
@option("--policy", type=click.Path(path_type=Path), help="The policy file. Default: the built-in policy.")
@click.option("--queue", required=True, help="The queue's name.")
@click.option("--type", "task_type", required=True, help="The task's type.")
@click.option("--state", type=click.Choice([state.value for state in State]), required=True, help="The terminal state.")
def explain(policy: Path | None, queue: str, task_type: str, state: str) -> None:
    """Say what a policy does with a task, which rule decides and why."""
    loaded = load(policy)
    for line in explain_policy(loaded, queue, task_type, State(state)):
        click.echo(line)


def _admin_option(command: Command) -> Command:
    text = "Where the sidecar's admin server listens: HOST:PORT or unix:PATH."
    return option("--admin", type=Listen(), default="127.0.0.1:9180", help=text)(command)


@click.command()
@_admin_option
@click.option("--queue", multiple=True, help="Only of these queues (globs).")
@click.option("--type", "task_type", multiple=True, help="Only tasks of these types (globs).")
@click.option(
    "--state", multiple=True, type=click.Choice(["archived", "completed", "pending"]), help="Only into these."
)
@click.option("--rule", multiple=True, help="Only decisions of these rules.")
@click.option("--action", multiple=True, type=click.Choice([action.value for action in Action]), help="Only these.")
@click.option(
    "--mode", multiple=True, type=click.Choice(["enforce", "shadow"]), help="Only decisions that were (not) done."
)
@click.option(
    "--kind", multiple=True, help="Only these kinds: decision, sweep, fail_open, reload, activation, pause, ..."
)
@click.option("--count", type=click.IntRange(min=0), default=0, help="End after so many; 0 for never.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
def tail(admin: address.Address, *, count: int, as_json: bool, **fields: tuple[str, ...]) -> None:
    """Show what a running sidecar decides, as it decides it. Several values of an option mean any of them."""
    console, notes = Console(highlight=False, soft_wrap=True), Console(stderr=True, highlight=False, soft_wrap=True)

    def show(entry: dict[str, Any]) -> None:
        if entry["kind"] in ("watching", "lost", "dropped"):
            notes.print(line_of(entry))
        elif as_json:
            click.echo(json.dumps(entry))
        else:
            console.print(line_of(entry))

    wanted = [("type" if name == "task_type" else name, value) for name, values in fields.items() for value in values]
    try:
        asyncio.run(watch(admin, wanted, show, limit=count))
    except AdminClientError as error:
        fail(str(error), FAILED)
    except (KeyboardInterrupt, BrokenPipeError):
        raise SystemExit(0) from None


@click.command()
@_admin_option
@option("--policy", type=click.Path(path_type=Path), help="A policy to ask about. Default: the one the sidecar runs.")
@click.option("--json", "as_json", is_flag=True, help="The whole report as JSON.")
def report(admin: address.Address, *, policy: Path | None, as_json: bool) -> None:
    """Sum up what a policy would do with the tasks that a sidecar has seen, beside what the policy in force does."""
    try:
        census = asyncio.run(ask(admin, "/api/census"))
    except AdminClientError as error:
        fail(str(error), FAILED)
    told = census["policy"]
    running = parse_policy(told["text"], told["source"])
    asked = load(policy) if policy is not None else running
    found = compare(census, asked, policy_in_force(running, told["mode"]))
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    for part in tables(found, asked, told["source"] if told["mode"] == Mode.ENFORCE.value else "", census["since"]):
        console.print(part)
