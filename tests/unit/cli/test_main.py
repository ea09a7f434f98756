"""Which commands there are, where they live, and that the list of them costs nothing."""

import re

import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli.main import COMMANDS, main
from asynq_ttl.telemetry.environment import VARIABLES
from support.commands import run
from support.imports import imported_by


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_what_a_command_says_of_itself(name: str) -> None:
    """Each is where the table says it is, and what the table says of it is how its own help begins."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert (command.help or "").replace("\n", " ").startswith(COMMANDS[name].removesuffix("."))


def test_help_lists_every_command() -> None:
    """In alphabetical order."""
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert list(COMMANDS) == sorted(COMMANDS)
    assert all(f"\n  {name} " in result.output for name in COMMANDS)


def test_a_command_that_does_not_exist_is_told() -> None:
    """It is a mistake of whoever typed it."""
    result = CliRunner().invoke(main, ["swerve"])
    assert result.exit_code == 2
    assert "No such command 'swerve'" in result.output


@pytest.mark.parametrize("line", ["redis://:sesame@h", "serve redis://:sesame@h", "serve ses@ame x", "audit ses/ame'"])
def test_an_argument_too_many_is_not_shown_if_it_may_be_a_url(line: str) -> None:
    """There may be a password in it."""
    result = CliRunner().invoke(main, line.split())
    assert result.exit_code == 2
    assert "not shown: it may hold a password" in result.output
    assert "ses" not in result.output
    assert "(a b)" in CliRunner().invoke(main, ["serve", "a", "b"]).output


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"serve"}))
def test_no_variable_of_opentelemetry_disturbs_a_command(name: str) -> None:
    """None of them exports anything; what a library reads when it is imported may be anything at all."""
    nonsense = {**dict.fromkeys(VARIABLES, "nonsense"), "OTEL_PYTHON_CONTEXT": "nonsense"}
    done = run(name, "--no-such-option", **nonsense)
    assert done.returncode == 2
    assert re.fullmatch(r"Usage: .*\nTry .*\n\nError: No such option.*\n", done.stderr), done.stderr


def test_the_list_imports_no_command() -> None:
    """Nobody waits for what is only listed."""
    loaded = imported_by("--help")
    assert {name for name in loaded if name.startswith("asynq_ttl.")} == {
        "asynq_ttl.__main__",
        "asynq_ttl.cli",
        "asynq_ttl.cli.hidden_arguments",
        "asynq_ttl.cli.main",
        "asynq_ttl.cli.standard_output",
    }
    assert not {"asyncio", "rich", "redis"} & loaded
