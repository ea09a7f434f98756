"""The command line: which commands there are. `asynq-ttl X` lives in `cli/X.py`.

Invariant: a command is imported when it is asked for, and none for the list of them. A sidecar runs beside every
worker, and probes beside every sidecar: what other commands need costs neither of them memory or time.
"""

import re
from importlib import import_module
from typing import Any, Final

import click

from asynq_ttl.cli.standard_output import writing

COMMANDS: Final = {
    "audit": "Show what is in a database and what is wrong with it.",
    "backfill": "Give tasks that are archived or completed already the TTL their policy says.",
    "check": "Check a policy FILE.",
    "demo": "Run real Asynq through a sidecar in front of an embedded Valkey.",
    "doctor": "Check a set-up: server, rights, clients, clocks, and the policy.",
    "drain": "Tell a running sidecar to drain, and wait until it has ended.",
    "explain": "Say what a policy does with a task, which rule decides and why.",
    "export": "Write archived and completed tasks as JSON lines.",
    "persist": "Take TTLs off task keys again.",
    "ready": "Ask a running sidecar whether it can serve clients.",
    "report": "Sum up what a policy would do with the tasks that a sidecar has seen.",
    "serve": "Run the sidecar until SIGTERM.",
    "tail": "Show what a running sidecar decides, as it decides it.",
    "why": "Say where a task is, what became of it, which rule decides, and what happens next.",
}
"""What each command does, by its name, which is also that of its module."""

OWN_PROCESS: Final = "own process"
"""The object of a command's context where it has the process for itself: it may set what signals do, and end it."""


# How click repeats an argument that it has no use for.
_STRAY: Final = re.compile(r"^((?:No such command|Got unexpected extra arguments?) .)(.*[@/].*)(\W.?)$", re.DOTALL)


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return their names."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one of them."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"asynq_ttl.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def make_context(self, *arguments: Any, **more: Any) -> click.Context:  # noqa: ANN401 - click's signature
        """Read the options, of which some print something and end."""
        with writing():
            return super().make_context(*arguments, **more)

    def invoke(self, ctx: click.Context) -> object:
        """Run a command. What was typed where nothing belongs is not repeated if it looks like a URL."""
        try:
            with writing():
                return super().invoke(ctx)
        except click.UsageError as error:
            told, strays = _STRAY.subn(r"\1not shown: it may hold a password\3", error.message)
            if not strays:
                raise
            raise click.UsageError(told, error.ctx) from None

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="asynq-ttl")
def main() -> None:
    """Give Asynq's terminal tasks a TTL by policy, from beside Redis.

    asynq-ttl stands between Asynq clients and Redis, forwards everything, and lets the commands that complete or
    archive a task attach a TTL to it in the same step.
    """
