"""Commands of `asynq-ttl` as processes of their own."""

import os
import subprocess
import sys

_SECONDS = 100


def command_line(*arguments: object) -> list[str]:
    """Return the line that runs `asynq-ttl` with arguments."""
    return [sys.executable, "-m", "asynq_ttl", *map(str, arguments)]


def run(*arguments: object, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `asynq-ttl` to its end.

    Args:
        arguments: its arguments.
        variables: more environment variables.
    """
    environment = os.environ | variables
    line = command_line(*arguments)
    return subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False, env=environment)
