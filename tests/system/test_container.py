"""The image, built from the Dockerfile as it is and run by the README's own command. The engine is Podman."""

import json
import os
import re
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis as redis_py

from support.asynq import Harness
from support.caller import PING
from support.debian import PYTHON, debian_archive, way_to_pypi
from support.namespaces import own_network, remove_cgroups
from support.paths import PACKAGE, ROOT
from support.servers import start_redis, wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

README = (ROOT / "deploy" / "README.md").read_text()
CGROUP = f"asynq-ttl-test-{os.getpid()}"


class Engine:
    """Podman with images and containers of its own, in a folder that goes with them.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "log"
        # What Podman would set by itself can be more than this machine allows.
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nruntime = "runc"\n'
        )
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{folder}/store"\nrunroot = "{folder}/run"\n'
        )
        self.environment = os.environ | {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
        }

    def __call__(self, *arguments: str | Path, status: int | tuple[int, ...] = 0) -> str:
        """Run a command of Podman's and return its output; it has to end with that status, or one of them."""
        command = ["podman", *map(str, arguments)]
        run = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, cwd=ROOT)
        expected = (status,) if isinstance(status, int) else status
        assert run.returncode in expected, run.stdout[-2000:] + run.stderr[-5000:]
        return run.stdout

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Start one, and return its process; what it writes is in `log`."""
        with self.log.open("wb") as log:
            return subprocess.Popen(["podman", *arguments], env=self.environment, stdout=log, stderr=log)

    def close(self) -> None:
        """Leave nothing behind."""
        self("rm", "--all", "--force", "--time", "0")
        self("rmi", "--all", "--force")
        for mount in ("store/overlay", "store/overlay-containers"):
            subprocess.run(["umount", "--recursive", self._folder / mount], check=False, capture_output=True)
        remove_cgroups(CGROUP)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine with the image, built on a Debian that has the name of the base image."""
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        engine = Engine(Path(folder))
        try:
            found = re.search(r"(?m)^ARG PYTHON=(.*)$", (ROOT / "deploy" / "docker" / "Dockerfile").read_text())
            assert found, "the Dockerfile has no ARG PYTHON"
            assert found[1].startswith(f"{PYTHON}-")
            path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            engine("import", "--change", path, debian_archive(), f"docker.io/library/python:{found[1]}")
            mounts = [f"--volume={here}:{there}:ro" for here, there in way_to_pypi(Path(folder)).items()]
            build = shlex.split(_readme(r"(?m)^docker (build .*)$"))
            engine(build[0], "--format", "docker", "--isolation", "chroot", "--layers=false", *mounts, *build[1:])
            yield engine
        finally:
            engine.close()


def _readme(pattern: str) -> str:
    found = re.search(pattern, README)
    assert found, f"deploy/README.md has no {pattern}"
    return found[1]


@contextmanager
def running(engine: Engine, *options: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the README's command in the network of this thread, until clients can connect."""
    line = shlex.split(_readme(r"(?m)^docker (run .*)$"))
    # Docker's --read-only leaves nothing writable.
    process = engine.start(
        "run", "--name=sidecar", "--read-only-tmpfs=false", f"--cgroup-parent=/{CGROUP}", *options, *line[1:]
    )
    try:
        wait_until(lambda: _listens() or process.poll() is not None, "it does not listen", 60)
        assert process.poll() is None, engine.log.read_text()
        yield process
    finally:
        engine("rm", "--force", "--ignore", "--time", "0", "sidecar")
        process.wait()


def _listens() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 6380)) == 0


def test_the_image_says_how_it_is_run(engine: Engine) -> None:
    """A user by number, the program itself as entry point, a health check; the compiled parts are in it."""
    (image,) = json.loads(engine("image", "inspect", "asynq-ttl:0.1.0"))
    config = image["Config"]
    assert config["User"] == "65532:65532"
    assert (config["Entrypoint"], config["Cmd"]) == (["asynq-ttl"], ["serve"])
    assert config["StopSignal"] in ("SIGTERM", "15")
    parts = [".".join(source.relative_to(PACKAGE.parent).with_suffix("").parts) for source in PACKAGE.rglob("*.c")]
    assert parts
    engine(
        "run",
        "--rm",
        "--network=none",
        f"--cgroup-parent=/{CGROUP}",
        "--entrypoint=python",
        "asynq-ttl:0.1.0",
        "-c",
        f"import {', '.join(parts)}",
    )
    assert image["Healthcheck"]["Test"] == ["CMD", "asynq-ttl", "ready", "--live"]


def test_it_serves_as_nobody_and_drains(engine: Engine, harness: Harness) -> None:
    """Real Asynq gets its TTL through it; nothing is writable; SIGTERM waits for a command under way."""
    with own_network(), start_redis(port=6379) as server, running(engine) as sidecar:
        wait_until(lambda: "is up" in engine.log.read_text(), "it does not find Redis")
        assert engine("exec", "sidecar", "asynq-ttl", "ready") == "ok\n"
        harness.enqueue("127.0.0.1:6380", {"type": "mail", "payload": '{"do": "skip"}', "id": "a"})
        harness.work("127.0.0.1:6380")
        with server.client() as client:
            assert client.ttl("asynq:{default}:t:a") > 80 * 86400

        status = engine("exec", "sidecar", "cat", "/proc/1/status")
        assert re.search(r"(?m)^Uid:\t65532\t65532\t65532\t65532$", status)
        assert re.search(r"(?m)^CapEff:\t0+$", status)
        for path in ("/x", "/tmp/x", "/opt/asynq-ttl/x"):  # noqa: S108 - in the container, where it must not exist
            engine("exec", "sidecar", "touch", path, status=1)

        with redis_py.Redis(port=6380) as waiting, server.client() as direct:
            waiting.ping()
            assert waiting.connection_pool is not None
            connection = waiting.connection_pool.get_connection()
            connection.send_command("BLPOP", "list", "20")
            wait_until(lambda: direct.info("clients")["blocked_clients"] == 1, "it does not wait")
            engine("kill", "--signal", "TERM", "sidecar")
            wait_until(lambda: not _listens(), "it goes on listening")
            assert sidecar.poll() is None
            direct.rpush("list", "item")
            assert connection.read_response() == [b"list", b"item"]
        assert sidecar.wait(20) == 0


def test_its_verbs_need_nothing_but_the_container(engine: Engine) -> None:
    """`ready` says what is missing; `drain` ends the container, and so itself."""
    with own_network(), running(engine) as sidecar:
        assert "ok" in engine("exec", "sidecar", "asynq-ttl", "ready", "--startup")
        engine("exec", "sidecar", "asynq-ttl", "ready", status=1)  # there is no Redis
        engine("healthcheck", "run", "sidecar")  # which is no fault of the container's
        with socket.create_connection(("127.0.0.1", 6380)) as refused:
            refused.sendall(PING)
            assert refused.recv(1000).startswith(b"-ERR")
        # Process 1 has ended, and with it all that ran in the container. (255: Podman had removed it before it looked.)
        engine("exec", "sidecar", "asynq-ttl", "drain", status=(137, 255))
        assert sidecar.wait(20) == 0
