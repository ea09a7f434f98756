"""What is built for tests and kept for the next time, outside the repository."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path


def cache_folder() -> Path:
    """Return where what was built is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asynq-ttl"


def kept(name: str, sources: Iterable[Path], make: Callable[[Path], None]) -> Path:
    """Return the folder of something built; it is built again when a source changes.

    Args:
        name: what it is called.
        sources: the files it is built from.
        make: builds it into a new folder. Several test runs may do this at the same time.
    """
    found = hashlib.sha256()
    for source in sorted(sources):
        found.update(source.name.encode() + b"\0" + source.read_bytes())
    folder = cache_folder() / f"{name}-{os.getuid()}-{found.hexdigest()[:16]}"
    if not folder.exists():
        fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
        fresh.mkdir(parents=True)
        try:
            make(fresh)
            fresh.rename(folder)
        except OSError:  # another run was faster
            assert folder.exists(), f"{name} cannot be built into {fresh}"
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    return folder
