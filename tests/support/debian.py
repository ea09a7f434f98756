"""A Debian made for tests: the stand-in for the image's base, and a machine that boots systemd.

No image registry is needed for it, only Debian's packages.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.cache import cache_folder

RELEASE = "trixie"
PYTHON = "3.13"
_PACKAGES = (
    "ca-certificates",
    "dbus",
    "libpython3-dev",
    "python-is-python3",
    "python3-venv",
    "redis-server",
    "systemd-sysv",
)
_CERTIFICATES = Path("/etc/ssl/certs")


def debian_archive() -> Path:
    """Return a tar file of a Debian with Python and systemd; made once, which takes half a minute."""
    tool = shutil.which("mmdebstrap")
    assert tool, "there is no mmdebstrap: apt-get install mmdebstrap"
    cache = cache_folder()
    contents = hashlib.sha256(" ".join(_PACKAGES).encode()).hexdigest()[:8]
    archive = cache / f"debian-{RELEASE}-{contents}.tar"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_suffix(f".{os.getpid()}.tar")
        quick = ["--dpkgopt=force-unsafe-io", '--aptopt=Acquire::Languages "none"']
        options = ["--mode=root", "--variant=apt", f"--include={','.join(_PACKAGES)}", *quick]
        mirror = f"deb http://deb.debian.org/debian {RELEASE} main"
        run = subprocess.run([tool, *options, RELEASE, unfinished, mirror], capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        unfinished.rename(archive)
    return archive


@contextmanager
def in_memory() -> Iterator[Path]:
    """Mount a folder in memory, where a Debian is unpacked and removed without a wait for the disk."""
    with tempfile.TemporaryDirectory(prefix="machine-") as name:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=2g", "machine", name], check=True)
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", name], check=True)


def unpack_debian(root: Path) -> None:
    """Make a Debian's root of a new folder."""
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", debian_archive(), "--directory", root], check=True)


def way_to_pypi(folder: Path) -> dict[Path, Path]:
    """Return which files of this machine, at which paths, let pip reach PyPI in another root: authorities and settings.

    Args:
        folder: where to put the settings.
    """
    settings = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in os.environ.items()
        if name in ("PIP_CERT", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
    }
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
    file = folder / "pip.conf"
    file.write_text("\n".join(lines) + "\n")
    return {_CERTIFICATES: _CERTIFICATES, file: Path("/etc/pip.conf")}
