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
from support.servers import SidecarFactory

REWRITING = """
version: 1
rules:
  - {name: all, archived: {ttl: 7d}, completed: {ttl: keep}}
"""
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
            sidecar = start_sidecar(cluster.url, policy, client_auth="none")
        sidecar.expected_warnings.append("is down")  # the cluster ends before it
        flags = ["-redis_cluster", f"-redis_cluster_addrs={sidecar.address}"]
        if way == "plain":
            flags = [f"-redis_addr={sidecar.address}", "-redis_db=0"]
        run = subprocess.run(
            [find_go(), "test", "-count=1", "-timeout=1000s", "-v", package, *flags],
            cwd=asynq_source,
            capture_output=True,
            text=True,
            timeout=1100,
            check=False,
            env={**os.environ, "GOFLAGS": "-mod=mod"},
        )
        decisions, fail_opens = (metric(sidecar, f"asynq_ttl_{name}_total") for name in ("decisions", "fail_open"))
    passed, failed = (re.findall(rf"^--- {word}: (\w+)", run.stdout, re.MULTILINE) for word in ("PASS", "FAIL"))
    assert len(passed) > 90, run.stdout[-3000:] + run.stderr[-2000:]
    assert all(name.endswith("TaskIdConflictError") for name in failed), (len(passed), failed)
    assert len(failed) == failing
    assert (decisions > 0) == (policy is REWRITING)
    assert fail_opens == 0
