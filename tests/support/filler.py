"""Real Asynq of any release that fills a Redis: builds `filler/` with that release, and runs it."""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from asynq_ttl.demo.harness import find_go
from support.asynq_source import MODULE
from support.cache import cache_folder

SOURCE = Path(__file__).parent / "filler" / "main.go"


@lru_cache
def build(version: str) -> Path:
    """Return the filler built with a release of Asynq, such as `v0.24.1`; it is kept for the next time."""
    folder = cache_folder() / f"filler-{version}-{os.getuid()}"
    program = folder / "filler"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(SOURCE, folder)
    (folder / "go.mod").write_text(f"module filler\n\ngo 1.24\n\nrequire {MODULE} {version}\n")
    fresh = f"filler.{os.getpid()}"
    environment = {**os.environ, "GOFLAGS": "-mod=mod"}
    for arguments in (["mod", "tidy"], ["build", "-trimpath", "-o", fresh, "."]):
        run = subprocess.run(
            [find_go(), *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment
        )
        assert run.returncode == 0, f"the filler does not build with {version}: {run.stderr}"
    (folder / fresh).replace(program)
    return program


def fill(version: str, port: int, *options: str) -> None:
    """Run the filler of a release against a server until all its tasks are settled."""
    command = [str(build(version)), "-redis", f"127.0.0.1:{port}", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stderr
