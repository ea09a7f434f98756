import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli.options import FAILED, Listen, SinkType, fail, option
from asynq_ttl.net.address import Address
from asynq_ttl.sweep.sink import SinkAddress


@click.command()
@option("--listen", type=Listen(), default="127.0.0.1:6380")
@option("--sink", type=SinkType())
def command(listen: Address, sink: SinkAddress | None) -> None:
    """Say what was understood."""
    click.echo(f"{listen} {sink}")


def test_an_option_is_also_a_variable() -> None:
    """The command line goes before the environment, and that before the default."""
    runner, environment = CliRunner(), {"ASYNQ_TTL_LISTEN": "unix:/run/a"}
    assert runner.invoke(command, []).output == "127.0.0.1:6380 None\n"
    assert runner.invoke(command, [], env=environment).output == "unix:/run/a None\n"
    assert runner.invoke(command, ["--listen", "[::1]:1"], env=environment).output.startswith("[::1]:1 ")
    assert "ASYNQ_TTL_LISTEN" in runner.invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("--listen", "nowhere", "expected HOST:PORT"), ("--sink", "ftp://x", "expected file:")],
)
def test_a_bad_value_is_told(name: str, value: str, reason: str) -> None:
    """With what is expected instead."""
    result = CliRunner().invoke(command, [name, value])
    assert result.exit_code == 2
    assert reason in result.output


def test_a_failure_is_one_line_and_a_status(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error."""
    with pytest.raises(SystemExit) as ended:
        fail("it does not work")
    assert ended.value.code == FAILED
    assert capsys.readouterr().err == "it does not work\n"
