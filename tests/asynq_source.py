"""Asynq's source in the Go module cache: its Lua scripts, read at test time."""

import functools
import re
import subprocess
from pathlib import Path

from asynq_ttl.harness import find_go

_SCRIPT = re.compile(r"(\w+) = redis\.NewScript\(`(.*?)`\)", re.DOTALL)


@functools.cache
def module_folder(version: str) -> Path:
    """Return the folder of an Asynq version in the module cache, downloading it if need be."""
    run = subprocess.run(
        [find_go(), "mod", "download", "-json", f"github.com/hibiken/asynq@{version}"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    found = re.search(r'"Dir": "(.*)"', run.stdout)
    assert found, f"Asynq {version} is not to be had: {run.stdout}{run.stderr}"
    return Path(found[1])


@functools.cache
def scripts(version: str) -> dict[str, bytes]:
    """Return the Lua scripts of an Asynq version by the names they have in its source."""
    folder = module_folder(version) / "internal" / "rdb"
    texts = (folder / name for name in ("rdb.go", "inspect.go"))
    return {name: text.encode() for path in texts for name, text in _SCRIPT.findall(path.read_text())}
