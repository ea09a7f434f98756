"""A sidecar in a container that has too little memory: the kernel's own limit under a real load."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.asynq import Harness
from support.pressure import MIB, POLICY, clients_in_the_middle, load
from support.servers import Server, Sidecar, SidecarFactory, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

LIMIT_BYTES = 160 * MIB


class Container:
    """A memory cgroup, version 1 or 2: all of a container that matters here."""

    def __init__(self, folder: Path, limit: str) -> None:
        self._folder = folder
        (folder / limit).write_text(str(LIMIT_BYTES))

    def start(self, sidecar: Sidecar) -> None:
        """Put a sidecar's process into it, starting it first if it has ended."""
        if sidecar.process is None or sidecar.process.poll() is not None:
            sidecar.start()
        assert sidecar.process is not None
        (self._folder / "cgroup.procs").write_text(str(sidecar.process.pid))

    def close(self) -> None:
        """Remove it; nothing may run in it."""
        self._folder.rmdir()


@pytest.fixture
def container() -> Iterator[Container]:
    """A container with little memory."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory").is_dir()
    folder = (root / "memory" if old else root) / "asynq-ttl-test"
    if not old:
        (root / "cgroup.subtree_control").write_text("+memory")
    folder.mkdir(exist_ok=True)
    container = Container(folder, "memory.limit_in_bytes" if old else "memory.max")
    yield container
    container.close()


@contextmanager
def running(container: Container, start_sidecar: SidecarFactory, server: Server, held_mib: int) -> Iterator[Sidecar]:
    """Run a sidecar of an empty server in its container, and end it before that."""
    server.reset()
    sidecar = start_sidecar(server.url, POLICY, max_held_mib=str(held_mib))
    sidecar.expected_warnings += ["failed open", "sweeping failed", "is down"]
    container.start(sidecar)
    yield sidecar
    sidecar.stop()


def test_a_sidecar_that_the_kernel_kills(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, container: Container, tmp_path: Path
) -> None:
    """With too much room it is killed, twice, and started again: every task comes to its end."""
    with (
        running(container, start_sidecar, redis_server, 100_000) as sidecar,
        load(sidecar, harness, redis_server, tmp_path / "ids"),
    ):
        for _ in range(2):
            with clients_in_the_middle(sidecar, 60):
                wait_until(lambda: sidecar.process and sidecar.process.poll() == -9, "the kernel does not kill it")
            container.start(sidecar)


def test_a_sidecar_whose_room_fits_its_container(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, container: Container, tmp_path: Path
) -> None:
    """With room that fits, the same clients do not get it killed."""
    with running(container, start_sidecar, redis_server, 16) as sidecar:
        process = sidecar.process
        with load(sidecar, harness, redis_server, tmp_path / "ids"):
            for _ in range(2):
                with clients_in_the_middle(sidecar, 60):
                    pass
        assert sidecar.process is process
        assert process is not None
        assert process.poll() is None
