"""How options are declared, what they can be, and how a command ends."""

import shlex

import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli.main import main
from asynq_ttl.cli.options import FAILED, Amount, Choice, Listen, Parsed, admin_option, fail, option
from asynq_ttl.net.address import Address


class Whole(Parsed[int]):
    """A whole number."""

    name = "number"
    kind = int
    parse = staticmethod(int)
    quotes = True


@click.command()
@option("--listen", type=Listen(), default="127.0.0.1:6380")
@option("--whole", type=Whole())
@admin_option
def command(listen: Address, whole: int | None, admin: Address) -> None:
    """Say what was understood."""
    click.echo(f"{listen} {whole} {admin.port}")


@pytest.mark.parametrize(
    "line",
    [
        *(f"{tool} --journal=" for tool in ("clean --state=archived", "backfill", "persist")),
        *(f"{tool} --policy=" for tool in ("audit", "backfill", "doctor", "release q a", "report", "serve", "why a")),
        *(f"explain --queue=q --type=t --state=archived {name}=" for name in ("--policy",)),
        *(f"serve {name}=" for name in ("--decisions", "--tls-cert", "--admin-token-file", "--upstream-password-file")),
        *(
            "clean --state=archived --export=",
            "init --output=",
            "export --output=",
            "audit --html=",
            "why a --decisions=",
        ),
        *("audit --checkpoint=", "hold q a --upstream-password-file=", 'check ""'),
    ],
)
def test_an_empty_path_is_refused(line: str) -> None:
    """It is what a script makes of a variable that is not set, and would be the current folder."""
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == 2
    assert "a path is empty: name a file" in result.stderr


@pytest.mark.parametrize(
    "line", ["init --output -", "clean --state archived --export -", "check -", "serve --policy -"]
)
def test_a_dash_is_refused_where_it_is_no_file(line: str) -> None:
    """A file of that name would come into being, or be looked for. `export` alone takes it as standard output."""
    result = CliRunner().invoke(main, shlex.split(line))
    assert result.exit_code == 2
    assert "`-` is no file here: name a file" in result.stderr


def test_an_option_is_also_a_variable() -> None:
    """The command line goes before the environment, and that before the default."""
    runner, environment = CliRunner(), {"ASYNQ_TTL_LISTEN": "unix:/run/a"}
    assert runner.invoke(command, []).output == "127.0.0.1:6380 None 9180\n"
    assert runner.invoke(command, [], env=environment).output == "unix:/run/a None 9180\n"
    assert runner.invoke(command, ["--listen", "[::1]:1"], env=environment).output.startswith("[::1]:1 ")
    assert "ASYNQ_TTL_LISTEN" in runner.invoke(command, ["--help"]).output


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("--listen", "nowhere", "expected HOST:PORT"),
        ("--whole", "1.5", "'1.5': invalid literal"),
        ("--admin", "x", "expected HOST:PORT"),
    ],
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


@pytest.mark.parametrize(
    ("typed", "understood"),
    [("INFO", "info"), ("Warn", "warning"), ("warning", "warning"), (" error ", "error")],
)
def test_a_choice_is_read_in_any_case(typed: str, understood: str) -> None:
    """Other programs write their log levels in capitals, and `warn`."""
    assert Choice(["info", "warning", "error"]).convert(typed, None, None) == understood


@pytest.mark.parametrize("typed", ["warn", "loud", ""])
def test_a_choice_is_one_of_its_words(typed: str) -> None:
    """`warn` is only a word where `warning` is."""
    with pytest.raises(click.BadParameter):
        Choice(["human", "json"]).convert(typed, None, None)


@pytest.mark.parametrize("text", ["nan", "-1", "inf", "1e300", "x"])
def test_what_is_no_amount(text: str) -> None:
    """What no clock and no lock can be given."""
    with pytest.raises(click.BadParameter):
        Amount().convert(text, None, None)


def test_an_amount() -> None:
    """With a fraction, or without."""
    assert [Amount().convert(text, None, None) for text in ("0", "2.5", "1e9")] == [0, 2.5, 1e9]
