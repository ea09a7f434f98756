import subprocess
import sys

import pytest

from asynq_ttl.cli.printing import CLOSED, console, printing, say, show


def test_what_is_said_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines as they are; parts for rich one below the other."""
    say("[a]")
    show("[bold]b[/]", "c")
    assert capsys.readouterr().out == "[a]\nb\nc\n"


def test_nobody_reads_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends without a word, whoever found out."""
    with pytest.raises(SystemExit) as ended, printing():
        raise BrokenPipeError
    assert ended.value.code == CLOSED
    with pytest.raises(BrokenPipeError):
        console().on_broken_pipe()
    assert capsys.readouterr().err == ""


def test_a_full_disk_is_called_that() -> None:
    """With standard output's name, and nothing after it."""
    code = "from asynq_ttl.cli.printing import say; say('x' * 9)"
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a descriptor
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "standard output: No space left on device\n")
