"""What cannot be written ends a command in one line with a status, whichever command it is."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import pytest

from asynq_ttl.cli.main import COMMANDS
from asynq_ttl.cli.standard_output import CLOSED, say, writing
from support.commands import command_line
from support.prepared import launch

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}}]\n"
LINES = [
    "--help",
    "--version",
    *(f"{name} --help" for name in COMMANDS),
    "check POLICY",
    "explain --policy POLICY --queue q --type t --state archived",
]


def test_what_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines as they are."""
    say("[a]")
    assert capsys.readouterr().out == "[a]\n"


def test_nobody_reads_any_more(capsys: pytest.CaptureFixture[str]) -> None:
    """The command ends without a word, whoever found out."""
    with pytest.raises(SystemExit) as ended, writing():
        raise BrokenPipeError
    assert ended.value.code == CLOSED
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(errno.ECONNREFUSED, "refused"), OSError(errno.ENOSPC, "full", "journal")]
)
def test_what_is_not_of_standard_output_goes_on(error: OSError) -> None:
    """Of the network, or of a file with a name."""
    with pytest.raises(type(error)) as raised, writing():
        raise error
    assert raised.value is error


def ended(words: list[str], output: IO[bytes]) -> tuple[int, str]:
    """Run a command to its end; return its status and what it said on standard error."""
    with TemporaryFile() as errors:
        status = launch(words, stdout=output, stderr=errors, env=os.environ).wait(100)
        errors.seek(0)
        return status, errors.read().decode()


@pytest.mark.parametrize("line", LINES)
def test_a_full_disk_and_a_closed_pipe(line: str, tmp_path: Path) -> None:
    """The first is called that, with standard output's name and nothing after it; the second ends without a word."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    words = [word.replace("POLICY", str(policy)) for word in line.split()]
    with Path("/dev/full").open("wb") as full:
        assert ended(words, full) == (1, "standard output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        assert ended(words, pipe) == (CLOSED, "")


@pytest.mark.parametrize("line", ["check POLICY", "check NONE", "audit --upstream redis://127.0.0.1:1"])
def test_closed_streams(line: str, tmp_path: Path) -> None:
    """The status says what came of it, with nobody to be told."""
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    command = command_line(*(word.replace("POLICY", str(policy)) for word in line.split()))
    usual = subprocess.run(command, capture_output=True, check=False)
    closed = subprocess.run(["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", *command], check=False)
    no_error = subprocess.run(
        ["/bin/sh", "-c", '"$@" 2>/dev/full', "sh", *command], stdout=subprocess.DEVNULL, check=False
    )
    assert closed.returncode == no_error.returncode == usual.returncode
    assert b"Traceback" not in usual.stderr


def test_no_connection_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library writes on standard error would reach whoever it is to."""
    told = tmp_path / "told"
    code = (
        "import os, sys; from asynq_ttl.cli.standard_output import open_closed_streams as f; f();"
        f"open({str(told)!r}, 'w').write(' '.join(map(os.readlink, ['/proc/self/fd/%d' % n for n in range(3)])));"
        "print(1); print(2, file=sys.stderr); "
    )
    subprocess.run(["/bin/sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code], check=True)
    assert told.read_text() == "/dev/null /dev/null /dev/null"
