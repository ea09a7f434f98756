"""The hook: whom it tells to drain, how long it waits, and that it is quick to import."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from asynq_ttl.cli.drain import drain
from support.imports import imported_by

DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); input()"


@pytest.mark.parametrize("program", ["asynq-ttl", "/usr/bin/asynq-ttl", "asynq_ttl", "/lib/asynq_ttl/__main__.py"])
def test_a_sidecar_is_told_and_waited_for(program: str) -> None:
    """However it was started."""
    command = [sys.executable, "-c", "print(flush=True); input()", program, "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sidecar:
        assert sidecar.stdout is not None
        sidecar.stdout.readline()
        result = CliRunner().invoke(drain, ["--pid", str(sidecar.pid)])
        assert (result.exit_code, result.output) == (0, "drained\n")
        assert sidecar.wait() == -15


def test_one_that_does_not_end_is_told() -> None:
    """After the timeout."""
    command = [sys.executable, "-c", DEAF, "asynq-ttl", "serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sidecar:
        assert sidecar.stdout is not None
        sidecar.stdout.readline()
        result = CliRunner().invoke(drain, ["--pid", str(sidecar.pid), "--timeout", "0.1"])
        assert (result.exit_code, result.output) == (1, f"process {sidecar.pid} has not ended within 0.1 s\n")
        sidecar.kill()


def test_drain_touches_no_other_process() -> None:
    """What is no sidecar gets no signal; a process that is not there is said to be none."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        result = CliRunner().invoke(drain, ["--pid", str(other.pid)])
        assert result.exit_code == 1
        assert "is no asynq-ttl serve" in result.output
        assert other.poll() is None
        other.kill()
    result = CliRunner().invoke(drain, ["--pid", str(other.pid)])
    assert result.exit_code == 1
    assert "there is no process" in result.output


@pytest.mark.parametrize("words", [["asynq-ttl", "tail"], ["my-asynq-ttl", "serve"], ["asynq_ttl.py", "serve"]])
def test_what_only_looks_like_a_sidecar_is_not_touched(words: list[str]) -> None:
    """Another command of ours, or another program with a name like it."""
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE) as other:
        result = CliRunner().invoke(drain, ["--pid", str(other.pid)])
        assert result.exit_code == 1
        assert other.poll() is None
        other.kill()


def test_a_number_that_no_process_has() -> None:
    """It is a mistake of whoever typed it."""
    assert CliRunner().invoke(drain, ["--pid", "99999999999999999999"]).exit_code == 2


def test_it_imports_nothing_slow() -> None:
    """A hook does not pay for telemetry, policy files or an event loop."""
    loaded = imported_by("drain", "--pid", "4194304")
    assert "click" in loaded
    assert not {"opentelemetry", "redis", "uvloop", "asyncio", "aiohttp", "rich"} & loaded
