"""A network of a test's own, and control groups that go with what was run in them."""

import ctypes
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_GONE_SECONDS = 5.0


@contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and all that it starts, into a network that has a loopback interface and nothing else.

    Every port is free there, and what it is done to its interfaces and its iptables goes with it.
    """
    assert os.getuid() == 0, "a network namespace needs root"
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as before:
        assert libc.unshare(_CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(before.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def cgroup_folders(name: str) -> list[Path]:
    """Return where a control group of that name is: in each hierarchy (version 1), or in the one (version 2)."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return [Path(fields[1]) / name for fields in mounts if fields[2] in ("cgroup", "cgroup2")]


def remove_cgroups(name: str) -> None:
    """Remove a control group, whose processes have ended, and those in it."""
    for folder in cgroup_folders(name):
        for each, _, _ in os.walk(folder, topdown=False):
            _remove(Path(each))


def _remove(cgroup: Path) -> None:
    deadline = time.monotonic() + _GONE_SECONDS
    while True:
        try:
            cgroup.rmdir()
        except OSError:  # a process in it has not quite gone
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return
