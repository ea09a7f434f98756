"""Real Asynq of any release: builds the small programs in this folder with it, and runs the one that fills a Redis."""

import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from asynq_ttl.demo.harness import find_go
from support.asynq_source import MODULE
from support.cache import cache_folder


@lru_cache
def build(version: str, name: str = "filler") -> Path:
    """Return a program built with a release of Asynq, such as `v0.24.1`; it is kept for the next time.

    Args:
        version: the release.
        name: the folder beside this module that has the program's source.
    """
    source = Path(__file__).parent / name / "main.go"
    folder = cache_folder() / f"{name}-{version}-{os.getuid()}"
    program = folder / name
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, folder)
    (folder / "go.mod").write_text(f"module {name}\n\ngo 1.24\n\nrequire {MODULE} {version}\n")
    fresh = f"{name}.{os.getpid()}"
    environment = {**os.environ, "GOFLAGS": "-mod=mod"}
    for arguments in (["mod", "tidy"], ["build", "-trimpath", "-o", fresh, "."]):
        run = subprocess.run(
            [find_go(), *arguments], cwd=folder, capture_output=True, text=True, check=False, env=environment
        )
        assert run.returncode == 0, f"{name} does not build with {version}: {run.stderr}"
    (folder / fresh).replace(program)
    return program


def fill(version: str, port: int, *options: str) -> None:
    """Run the filler of a release against a server until all its tasks are settled."""
    command = [str(build(version)), "-redis", f"127.0.0.1:{port}", *options]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stderr
