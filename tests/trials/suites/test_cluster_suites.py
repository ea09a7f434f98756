"""Asynq's own suites, through the sidecar to a cluster whose password only the sidecar knows.

In cluster mode at a port for each node and at the one port, and with the plain client at the one port.

Six tests of internal/rdb use a queue without a name, and `{}` is no hash tag: on a cluster they fail without the
sidecar too. All others have to pass.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asynq_ttl.demo.harness import find_go
from support.asynq_source import module_folder
from support.cluster import Kind, metric, serve_cluster, start_cluster
from support.servers import SidecarFactory, free_port

REWRITING = """
version: 1
rules:
  - {name: all, archived: {ttl: 7d}, completed: {ttl: keep}}
"""
# It archives 10,000 tasks and takes the moment at which each died for that at which it began: tried again by itself.
BY_THE_CLOCK = "TestArchiveTrim"
OFF = REWRITING.replace("version: 1", "version: 1\nmode: off")


@pytest.fixture(scope="session")
def asynq_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A writable copy of Asynq's source (go needs one to run a module's own tests)."""
    folder = tmp_path_factory.mktemp("asynq") / "source"
    shutil.copytree(module_folder("v0.26.0"), folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    return folder


@pytest.mark.suite
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("policy", [REWRITING, OFF], ids=["rewriting", "off"])
@pytest.mark.parametrize("way", ["ports", "one-port", "plain"])
@pytest.mark.parametrize(("package", "failing"), [("./internal/rdb", 6), (".", 0)], ids=["rdb", "root"])
def test_the_suite_passes_on_a_cluster(
    package: str, failing: int, way: str, policy: str, *, asynq_source: Path, start_sidecar: SidecarFactory
) -> None:
    """As it does directly, test by test; decisions are made, and none fails open."""
    with start_cluster(Kind("path-redis", password="sesame")) as cluster:
        if way == "ports":
            sidecar = serve_cluster(start_sidecar, cluster, policy)
        else:
            sidecar = start_sidecar(cluster.url, policy, client_auth="none", admin=f"127.0.0.1:{free_port()}")
        # The cluster ends before it; and what belongs to a queue without a name is at several masters.
        sidecar.expected_warnings += ["is down", "sweeping failed", "cannot be swept"]
        flags = ["-redis_cluster", f"-redis_cluster_addrs={sidecar.address}"]
        if way == "plain":
            flags = [f"-redis_addr={sidecar.address}", "-redis_db=0"]
        output = go_test(asynq_source, package, *flags)
        passed, failed = (set(re.findall(rf"^--- {word}: (\w+)", output, re.MULTILINE)) for word in ("PASS", "FAIL"))
        if BY_THE_CLOCK in failed and f"PASS: {BY_THE_CLOCK}" in go_test(
            asynq_source, package, f"-run=^{BY_THE_CLOCK}$", *flags
        ):
            failed.remove(BY_THE_CLOCK)
        decisions, fail_opens = (metric(sidecar, f"asynq_ttl_{name}_total") for name in ("decisions", "fail_open"))
    assert len(passed) > 90, output[-5000:]
    unexpected = [name for name in failed if not name.endswith("TaskIdConflictError")]
    assert not unexpected, [(name, told_of(name, output)) for name in unexpected]
    assert len(failed) == failing
    assert (decisions > 0) == (policy is REWRITING)
    assert fail_opens == 0


def go_test(source: Path, package: str, *options: str) -> str:
    """Run one of Asynq's packages' tests; return what is told."""
    run = subprocess.run(
        [find_go(), "test", "-count=1", "-timeout=1000s", "-v", package, *options],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
    )
    return run.stdout + run.stderr


def told_of(name: str, output: str) -> str:
    """Return what a test of Go's has told."""
    return output.partition(f"=== RUN   {name}\n")[2].partition("\n=== RUN")[0][:2_000]
