"""Tests of the core and main ones with real Asynq, where nothing is compiled, and on the newest Python of Debian.

What this Python does with the compiled parts is tested by `make test`.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from asynq_ttl.demo.harness import build_harness, find_go
from support.asynq_source import scripts
from support.cache import cache_folder
from support.debian import PYTHON, in_memory, unpack_debian, way_to_pypi
from support.paths import PACKAGE, ROOT

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

FILES = ("pyproject.toml", "hatch_build.py", "Makefile", "README.md", "LICENSE")
FOLDERS = ("proxy", "policies", "tests", "bench")
CORE = [
    *(f"tests/unit/{name}" for name in ("asynq", "policy", "rewriting", "session", "wire", "relay", "test_events.py")),
    "tests/property",
]
MAIN = [
    f"tests/integration/{name}"
    for name in (
        "rewriting/test_asynq.py",
        "rewriting/test_hazards.py",
        "session/test_transparency.py",
        "relay/test_python_clients.py",
        "sidecar/test_serve.py",
    )
]
QUIETLY = ["-m", "pytest", "--quiet", "--no-header", "--numprocesses=4", "--dist=worksteal", "-p", "no:cacheprovider"]


def with_python(*, compiled: bool) -> list[list[str]]:
    """Return what Python is called with: tests of the core, and main ones, on Valkey where they can choose."""
    core = [] if compiled else ["-m", "not compiled"]
    return [[*QUIETLY, *core, *CORE], [*QUIETLY, "-k", "valkey or not redis", *MAIN]]


def copy_checkout(folder: Path) -> None:
    """Copy what the tests need, without what was compiled."""
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder / name)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.so", "__pycache__", "results"))


def compiled_parts(checkout: Path) -> set[str]:
    """Return the names of what was compiled in a checkout, such as `_resp`."""
    return {found.name.partition(".")[0] for found in checkout.rglob("*.so")}


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Run a command, which has to succeed."""
    run = subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-8000:]


def test_this_python_without_the_compiled_parts(tmp_path: Path) -> None:
    """Another checkout, and an environment that has it, and of the one that is used here only the packages."""
    checkout = tmp_path / "src"
    copy_checkout(checkout)
    environment = tmp_path / "environment"
    run([sys.executable, "-m", "venv", "--without-pip", str(environment)], tmp_path, dict(os.environ))
    packages = Path(sysconfig.get_path("purelib"))
    (environment / packages.relative_to(sys.prefix) / "checkout.pth").write_text(f"{checkout / 'proxy'}\n{packages}\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    for arguments in with_python(compiled=False):
        run([str(environment / "bin" / "python"), *arguments], checkout, variables)
    assert not compiled_parts(checkout)


class Debian:
    """A Debian that is entered by chroot, with this checkout in `/src`, the Go modules of this machine and the harness.

    Args:
        root: its root.
        settings: a folder for settings.
    """

    def __init__(self, root: Path, settings: Path) -> None:
        self.checkout = root / "src"
        self._root = root
        unpack_debian(root)
        copy_checkout(self.checkout)
        shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
        build_harness()
        scripts("v0.26.0")
        asked = subprocess.run([find_go(), "env", "GOROOT", "GOMODCACHE"], capture_output=True, text=True, check=True)
        go, modules = map(Path, asked.stdout.split())
        mounts = {Path("/dev"): Path("/dev"), cache_folder(): Path("/root/.cache/asynq-ttl")}
        mounts |= way_to_pypi(settings) | {go: Path("/usr/local/go"), modules: Path("/root/go/pkg/mod")}
        lines = [f"mount -t proc proc {root}/proc"]
        for here, there in mounts.items():
            target = root / there.relative_to("/")
            if here.is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.touch()
            lines.append(f"mount --rbind {here} {target}")
        # The mounts and processes go with the namespaces.
        self._enter = "\n".join([*lines, f'exec chroot {root} sh -euxc "cd /src; $1"'])

    def run(self, script: str) -> None:
        """Run commands in it, in the network of this machine."""
        path = "/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        run([*namespaces, "sh", "-euc", self._enter, "sh", script], self._root, environment)


@pytest.fixture(scope="module")
def debian() -> Iterator[Debian]:
    """A Debian with `make` and no C compiler."""
    with in_memory() as folder:
        debian = Debian(folder / "root", folder)
        debian.run("apt-get update -qq; apt-get install -qq --yes --no-install-recommends make")
        yield debian


def test_the_newest_python_of_debian(debian: Debian) -> None:
    """First where there is no compiler, then with one. The Makefile installs it, as it does everywhere."""
    for compiler in (False, True):
        if compiler:
            debian.run("apt-get install -qq --yes --no-install-recommends gcc; rm .venv/.installed")
        debian.run("make EXTRA=test .venv/.installed")
        sources = {source.stem for source in PACKAGE.rglob("*.c")}
        assert compiled_parts(debian.checkout / "proxy") == (sources if compiler else set())
        version = f"import sys; assert sys.version.startswith('{PYTHON}.'), sys.version"
        debian.run(f'.venv/bin/python -c "{version}"')
        for arguments in with_python(compiled=compiler):
            debian.run(shlex.join([".venv/bin/python", *arguments]))
