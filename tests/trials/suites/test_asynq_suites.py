"""Asynq's own test suites, unchanged, through the sidecar: with a policy that rewrites, and with it off."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asynq_ttl.demo.harness import find_go
from support.asynq_source import module_folder
from support.servers import Server, SidecarFactory

REWRITING = """
version: 1
rules:
  - {name: all, archived: {ttl: 7d}, completed: {ttl: keep}}
"""
# It archives 10,000 tasks and takes the moment at which each died for that at which it began. That holds only where
# nothing else runs, as in the version matrix.
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


def run_suite(source: Path, package: str, address: str, timeout: int) -> None:
    """Run one of Asynq's packages' tests, but the one that goes by the clock; fail with their output if they do."""
    options = ["-count=1", f"-timeout={timeout}s", f"-skip=^{BY_THE_CLOCK}$"]
    run = subprocess.run(
        [find_go(), "test", *options, package, "-redis_addr", address],
        cwd=source,
        capture_output=True,
        text=True,
        timeout=timeout + 60,
        check=False,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
    )
    failures = "\n".join(re.findall(r"^ *--- FAIL.*(?:\n {4,}.*){0,20}", run.stdout, re.MULTILINE))
    assert run.returncode == 0, failures + "\n...\n" + run.stdout[-3000:] + run.stderr[-2000:]


# With a policy that rewrites, the version matrix has it on every server.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("server", "policy"),
    [("redis", REWRITING), ("valkey", OFF)],
    ids=["redis-rewriting", "valkey-off"],
    indirect=["server"],
)
def test_the_rdb_suite_passes(server: Server, start_sidecar: SidecarFactory, asynq_source: Path, policy: str) -> None:
    """What Asynq expects of Redis, script by script, holds through the sidecar."""
    sidecar = start_sidecar(server.url, policy)
    run_suite(asynq_source, "./internal/rdb", sidecar.address, 400)


@pytest.mark.suite
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("policy", [REWRITING, OFF], ids=["rewriting", "off"])
def test_the_root_suite_passes(
    valkey_server: Server, start_sidecar: SidecarFactory, asynq_source: Path, policy: str
) -> None:
    """Client, server, Inspector, scheduler and the rest work through the sidecar."""
    sidecar = start_sidecar(valkey_server.url, policy)
    run_suite(asynq_source, ".", sidecar.address, 900)
