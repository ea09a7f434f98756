"""A fork of Asynq whose keys have a prefix of their own, made from the Go module cache at test time."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from asynq_ttl.demo.harness import build_harness, find_go
from support.asynq_source import MODULE, module_folder

PREFIX = "myapp:"
"""What stands before all of Asynq's own keys."""
_KEYS = "internal/base/base.go"
_VERSION = re.compile(re.escape(MODULE) + r" (v\S+)")


def build_fork() -> Path:
    """Build the harness with the fork, or find it built; return the program's path."""
    harness = build_harness()
    program = harness.with_name(f"{harness.name}-fork")
    if program.exists():
        return program
    source = Path(__file__).resolve().parents[1] / "harness"
    with tempfile.TemporaryDirectory(dir=harness.parent) as folder:
        copy, fork, built = Path(folder) / "harness", Path(folder) / "asynq", Path(folder) / "built"
        shutil.copytree(source, copy)
        version = _VERSION.search((source / "go.mod").read_text())
        assert version is not None
        _copy_fork(module_folder(version[1]), fork)
        with (copy / "go.mod").open("a") as module:
            module.write(f"\nreplace {MODULE} => {fork}\n")
        command = [find_go(), "build", "-trimpath", "-o", str(built), "."]
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        built.replace(program)
    return program


def _copy_fork(original: Path, fork: Path) -> None:
    """Copy Asynq with other keys. What is in the module cache may not be written to, and so is the copy at first."""
    shutil.copytree(original, fork, copy_function=shutil.copyfile)
    for folder in (fork, *(path for path in fork.rglob("*") if path.is_dir())):
        folder.chmod(0o755)
    keys = fork / _KEYS
    changed, places = re.subn('"asynq:', f'"{PREFIX}asynq:', keys.read_text())
    assert places > 8, "Asynq's keys are not where they were"
    keys.write_text(changed)
