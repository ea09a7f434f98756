"""The options of access, folded into settings."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asynq_ttl.cli.access_options import access_options
from asynq_ttl.net.address import Upstream, parse_upstream
from asynq_ttl.net.tls import ListenerTls
from asynq_ttl.sidecar.settings import Access, ClientAuth

SEEN: list[tuple[Access, Upstream]] = []


@click.command()
@click.option("--upstream", type=parse_upstream, default="redis://me:pass@h/0")
@access_options
def command(*, access: Access, upstream: Upstream) -> None:
    """Remember what it is given."""
    SEEN.append((access, upstream))


def run(*options: str, **environment: str) -> tuple[Access, Upstream]:
    """Run the command; return what it was given."""
    SEEN.clear()
    result = CliRunner().invoke(command, options, env=environment)
    assert result.exit_code == 0, result.output
    return SEEN[0]


def test_by_default_clients_show_redis_their_own_credentials() -> None:
    """No TLS, nothing logged in."""
    access, _ = run()
    assert access == Access()
    assert not access.logs_in


def test_options_and_variables_are_alike(tmp_path: Path) -> None:
    """Each option is a variable too."""
    passwords = tmp_path / "p"
    passwords.write_text("sesame")
    expected = Access(ListenerTls(Path("c"), Path("k"), Path("a")), ClientAuth.PASSWORD, passwords)
    names = {
        "ASYNQ_TTL_TLS_CERT": "c",
        "ASYNQ_TTL_TLS_KEY": "k",
        "ASYNQ_TTL_TLS_CLIENT_CA": "a",
        "ASYNQ_TTL_CLIENT_AUTH": "password",
        "ASYNQ_TTL_CLIENT_PASSWORD_FILE": str(passwords),
    }
    assert run(**names)[0] == expected
    options = [
        f"--{name.removeprefix('ASYNQ_TTL_').lower().replace('_', '-')}={value}" for name, value in names.items()
    ]
    assert run(*options)[0] == expected


def test_a_password_file_takes_the_place_of_a_password() -> None:
    """The upstream carries its path."""
    _, upstream = run("--upstream", "redis://me@h/0", "--upstream-password-file", "f", "--client-auth", "none")
    assert (upstream.username, upstream.password, upstream.password_file) == ("me", "", "f")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--tls-key k", "need --tls-cert"),
        ("--tls-client-ca k", "need --tls-cert"),
        ("--client-auth password", "go together"),
        ("--client-password-file p", "go together"),
        ("--upstream-password-file p", "which one?"),
        ("--upstream redis://h --client-auth none", "needs the sidecar's credentials"),
        ("--client-auth maybe", "'pass', 'none', 'password'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: str, complaint: str) -> None:
    """One line says what is missing."""
    result = CliRunner().invoke(command, options.split())
    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize(("content", "told"), [(None, "No such file"), ("", "no password in it"), (" \n\n", "in it")])
def test_passwords_that_let_in_nobody_are_refused(content: str | None, told: str, tmp_path: Path) -> None:
    """Before anything starts, by the name of their file."""
    file = tmp_path / "passwords"
    if content is not None:
        file.write_text(content)
    result = CliRunner().invoke(command, ["--client-auth", "password", "--client-password-file", str(file)])
    assert (result.exit_code, told in result.output, str(file) in result.output) == (2, True, True)
