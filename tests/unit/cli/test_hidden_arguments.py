"""What of a command line moves to the environment."""

import pytest
from click.testing import CliRunner

from asynq_ttl.cli.hidden_arguments import HIDDEN, hide, without_secrets
from asynq_ttl.cli.main import main


@pytest.mark.parametrize(
    ("line", "kept", "variables"),
    [
        ("serve --listen a:1", "serve --listen a:1", {}),
        ("serve --upstream U --listen a:1", "serve --listen a:1", {"ASYNQ_TTL_UPSTREAM": "U"}),
        ("serve --upstream=U=V", "serve", {"ASYNQ_TTL_UPSTREAM": "U=V"}),
        (
            "serve --sink S --admin-token T --embedded",
            "serve --embedded",
            {"ASYNQ_TTL_SINK": "S", "ASYNQ_TTL_ADMIN_TOKEN": "T"},
        ),
        ("serve --upstream 1 --upstream 2", "serve", {"ASYNQ_TTL_UPSTREAM": "2"}),
        ("audit --upstream U --json", "audit --json", {"ASYNQ_TTL_UPSTREAM": "U"}),
        ("audit --sink S", "audit --sink S", {}),
        ("serve --upstream", "serve --upstream", {}),
        ("serve -- --upstream U", "serve -- --upstream U", {}),
        ("check FILE", "check FILE", {}),
        ("--help", "--help", {}),
        ("", "", {}),
    ],
)
def test_what_may_hold_a_secret_becomes_a_variable(line: str, kept: str, variables: dict[str, str]) -> None:
    """The rest stays as it is, in its order; the last of several counts, as for click."""
    assert without_secrets(line.split()) == (kept.split(), variables)


def test_each_of_the_options_has_its_variable() -> None:
    """Else what was given would be lost."""
    for command, options in HIDDEN.items():
        said = " ".join(CliRunner().invoke(main, [command, "--help"], terminal_width=1000).output.split())
        for name in options:
            assert f"ASYNQ_TTL_{name.removeprefix('--').replace('-', '_').upper()}" in said, command


def test_without_secrets_nothing_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most are in the environment or in a file already."""
    monkeypatch.setattr("sys.argv", ["asynq-ttl", "serve", "--listen", "a:1"])
    hide()


def test_the_program_is_run_again_as_it_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Python's own arguments."""
    runs: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr("os.execve", lambda *given: runs.append(given))
    monkeypatch.setattr("sys.argv", ["asynq-ttl", "serve", "--upstream", "U"])
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "asynq_ttl", "serve", "--upstream", "U"])
    monkeypatch.setattr("sys.executable", "/python")
    hide()
    program, line, variables = runs[0]
    assert (program, line, variables["ASYNQ_TTL_UPSTREAM"]) == ("/python", ["python", "-m", "asynq_ttl", "serve"], "U")
