"""Commands of `asynq-ttl` as processes of their own."""

import os
import subprocess
import sys
from tempfile import TemporaryFile

from support.prepared import launch

_SECONDS = 100


def command_line(*arguments: object) -> list[str]:
    """Return the line that runs `asynq-ttl` with arguments."""
    return [sys.executable, "-m", "asynq_ttl", *map(str, arguments)]


def run(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `asynq-ttl` to its end.

    Args:
        arguments: its arguments.
        variables: more environment variables. With OpenTelemetry's it is not forked; see `prepared`.
    """
    environment = os.environ | variables
    line = command_line(*arguments)
    if any(name.startswith("OTEL_") for name in environment):
        return subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)
    with TemporaryFile() as output, TemporaryFile() as errors:
        status = launch([*map(str, arguments)], stdout=output, stderr=errors, env=environment).wait(_SECONDS)
        told = []
        for file in (output, errors):
            file.seek(0)
            told.append(file.read().decode())
    return subprocess.CompletedProcess(line, status, *told)
