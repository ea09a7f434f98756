"""Asynq's own Lua scripts, read at test time from the Go module cache: none is copied into the project."""

import json
import re
import subprocess
from functools import lru_cache
from pathlib import Path

from asynq_ttl.demo.harness import find_go

MODULE = "github.com/hibiken/asynq"
VERSIONS = ("v0.18.6", "v0.19.0", "v0.20.0", "v0.22.1", "v0.23.0", "v0.24.1", "v0.25.1", "v0.26.0")
"""The releases with scripts of their own; what lies between them has the scripts of one of these."""

_SCRIPT = re.compile(rb"(\w+)\s*:?=\s*redis\.NewScript\(`([^`]*)`\)")
_FILES = ("rdb.go", "inspect.go")


@lru_cache
def scripts(version: str) -> dict[str, bytes]:
    """Return the Lua texts of a release by their names in Asynq's source.

    Args:
        version: a tag such as `v0.26.0`.

    Raises:
        HarnessError: there is no Go toolchain.
        AssertionError: the module is not to be had, or its scripts cannot be read.
    """
    folder = module_folder(version) / "internal" / "rdb"
    sources = [(folder / file).read_bytes() for file in _FILES]
    found = {name.decode(): text for source in sources for name, text in _SCRIPT.findall(source)}
    made = sum(source.count(b"redis.NewScript(") for source in sources)
    assert len(found) == made > 0, f"{len(found)} of the {made} scripts of {MODULE}@{version} can be read"
    return found


def module_folder(version: str, module: str = MODULE) -> Path:
    """Return where a release of Asynq, or of another module, lies in the module cache, downloaded if it has to be."""
    command = [find_go(), "mod", "download", "-json", f"{module}@{version}"]
    # Outside any module, so that the answer is about the release and nothing else.
    done = subprocess.run(command, cwd=Path(__file__).anchor, capture_output=True, check=False)
    answer = json.loads(done.stdout or b"{}")
    assert "Dir" in answer, f"{' '.join(command)}: {answer.get('Error') or done.stderr.decode()}"
    return Path(answer["Dir"])
