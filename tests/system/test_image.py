"""The Dockerfile's steps without an engine: in mount namespaces instead of layers, as its user, read-only."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis as redis_py

from servers import Server, free_port, wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"


def stages() -> list[list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, continuation lines joined."""
    text = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()))
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        elif found:
            found[-1].append((name, rest.strip()))
    return found


def instruction(stage: list[tuple[str, str]], name: str) -> str:
    """Return what an instruction of a stage says."""
    return next(rest for found, rest in stage if found == name)


def copy_context(source: str, target: Path) -> None:
    """Copy what COPY would, as far as the ignore file lets it."""
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    name = source.rstrip("/")
    assert any(name == entry or name.startswith(f"{entry}/") for entry in allowed), f"{source} is ignored"
    hidden = shutil.ignore_patterns(*(line.removeprefix("**/") for line in ignored if line.startswith("**/")))
    if (ROOT / name).is_dir():
        shutil.copytree(ROOT / name, target / name, ignore=hidden)
    else:
        shutil.copy(ROOT / name, target / name)


def in_namespace(tmp_path: Path, steps: list[str]) -> list[str]:
    """Return a command that runs shell steps where /opt/asynq-ttl and the base image's Python are mounted."""
    mounts = [
        "mkdir -p /opt/asynq-ttl",
        f"mount --bind {tmp_path}/opt /opt/asynq-ttl",
        "mkdir -p /run/base-python",
        f"mount --bind {shlex.quote(sys.base_prefix)} /run/base-python",
        "export PATH=/run/base-python/bin:/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1",
        "export LD_LIBRARY_PATH=/run/base-python/lib",  # for a Python with a library of its own
    ]
    return ["unshare", "--mount", "sh", "-euc", "\n".join([*mounts, *steps])]


@pytest.mark.timeout(600)
def test_the_image_builds_and_runs_as_nobody_on_a_read_only_root(redis_server: Server, tmp_path: Path) -> None:
    """The build's steps work with nothing but the context; what they make serves, is asked and drains as in a pod."""
    assert os.getuid() == 0, "mount namespaces need root"
    build, final = stages()
    (tmp_path / "opt").mkdir()
    context = tmp_path / "src"
    for name, rest in build:
        if name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                (context / target).parent.mkdir(parents=True, exist_ok=True)
                context.mkdir(exist_ok=True)
                (context / Path(source.rstrip("/")).parent).mkdir(parents=True, exist_ok=True)
                copy_context(source, context)
    # The first RUN installs a compiler; here the machine has one.
    packages, steps = (rest for name, rest in build if name == "RUN")
    assert packages.startswith("apt-get update"), packages
    run = in_namespace(tmp_path, [f"cd {context}", steps])
    built = subprocess.run(run, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert list((tmp_path / "opt").rglob("_chunk*.so")), "the decoder is not compiled"

    user, group = instruction(final, "USER").split(":")
    entry = [*json.loads(instruction(final, "ENTRYPOINT")), *json.loads(instruction(final, "CMD"))]
    tmp_path.chmod(0o755)
    drop = f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set -all --inh-caps -all"
    enter = [
        "mount -o remount,ro,bind /opt/asynq-ttl",
        "mount -t tmpfs -o ro tmpfs /tmp",
        "mount -o remount,ro,bind /",
        "cd /",
        "export PATH=/opt/asynq-ttl/bin:$PATH",
    ]
    port = free_port()
    environment = {"ASYNQ_TTL_LISTEN": f"127.0.0.1:{port}", "ASYNQ_TTL_UPSTREAM": redis_server.url}
    command = in_namespace(tmp_path, [*enter, f"exec {drop} {shlex.join(entry)}"])
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as sidecar:
        try:
            wait_until(lambda: _answers(port) or sidecar.poll() is not None, "it does not serve", 30)
            assert sidecar.poll() is None, sidecar.communicate()
            status = Path(f"/proc/{sidecar.pid}/status").read_text()
            assert re.search(rf"(?m)^Uid:\t{user}\t{user}\t{user}\t{user}$", status)
            assert re.search(r"(?m)^CapEff:\t0+$", status)
            drain = in_namespace(tmp_path, [*enter, f"exec {drop} asynq-ttl drain --pid {sidecar.pid}"])
            drained = subprocess.run(drain, capture_output=True, text=True, check=False, timeout=60)
            assert (drained.stdout, drained.returncode) == ("drained\n", 0), drained.stderr
            assert sidecar.wait(5) == 0
        finally:
            sidecar.kill()


def _answers(port: int) -> bool:
    try:
        with redis_py.Redis(port=port) as client:
            return bool(client.ping())
    except redis_py.RedisError:
        return False
