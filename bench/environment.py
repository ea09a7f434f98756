"""Where and with what a measurement was made."""

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from contestants import MissingProgramError, program

from support.servers import Server

_VERSIONS = {"haproxy": "-v", "nutcracker": "-V", "redis-benchmark": "--version"}
_PACKAGES = ("asynq-ttl", "uvloop", "hiredis", "opentelemetry-sdk")


def environment(server: Server) -> dict[str, object]:
    """Describe the machine and the versions of everything that takes part.

    Args:
        server: one of the kind behind the contestants, running.
    """
    with server.client() as client:
        info = client.info("server")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "server": f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}",
        "programs": {name: found for name in _VERSIONS if (found := _program_version(name))},
        "packages": {name: version(name) for name in _PACKAGES},
        "revision": _revision(),
    }


def _cpu() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _program_version(name: str) -> str:
    try:
        path = program(name)
    except MissingProgramError:
        return ""
    run = subprocess.run([path, _VERSIONS[name]], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+[.\d]*", run.stdout + run.stderr)
    return found[0] if found else ""


def _revision() -> str:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]  # a checkout may be without git
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return run.stdout.strip()
