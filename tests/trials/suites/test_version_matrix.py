"""What the rdb suite of each Asynq release gives directly, it gives through a sidecar that rewrites.

`asynq_source.VERSIONS` are the releases whose scripts differ. Two that belong here cannot be had from the Go module
proxy: v0.19.1 (the proxy refuses it) and the main branch. The suite of v0.20.0 does not compile as it was released,
for want of a constant; see `REPAIRS`.

A suite may fail on a Go or a server that is younger than it. So what is compared is every single test and subtest,
run directly and through the sidecar, one right after the other. `--log-cli-level=info` tells how many there are and
which fail directly.
"""

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from asynq_ttl.demo.harness import find_go
from support.asynq_source import VERSIONS, module_folder
from support.servers import Server, SidecarFactory

_log = logging.getLogger(__name__)

POLICY = """
version: 1
rules:
  - {name: all, archived: {ttl: 7d}, completed: {ttl: keep}}
"""
# What has to be changed in a release's tests to compile them: (file, as released, as meant).
REPAIRS = {"v0.20.0": ("internal/rdb/rdb_test.go", "base.MaxInt64", "int64(1<<63 - 1)")}
# Every release's suite has more top-level tests than this, and this share of them passes directly.
LEAST_TESTS, LEAST_PASSED = 60, 0.95

Results = dict[str, str]
"""What became of each test, by its name: pass, fail or skip."""


@pytest.fixture(scope="session")
def suite_program(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the compiled rdb suite of a release; each is compiled once."""
    programs: dict[str, Path] = {}

    def program(version: str) -> Path:
        if version not in programs:
            programs[version] = _compile(version, tmp_path_factory.mktemp(version))
        return programs[version]

    return program


@pytest.mark.suite
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_rdb_suite_gives_the_same_through_the_sidecar(
    each_server: Server,
    start_sidecar: SidecarFactory,
    suite_program: Callable[[str], Path],
    version: str,
) -> None:
    """Test by test and subtest by subtest, a release finds through the sidecar what it finds without."""
    program = suite_program(version)
    directly = _run(program, f"127.0.0.1:{each_server.port}")
    through = _run(program, start_sidecar(each_server.url, POLICY).address)
    tests = {name: result for name, result in directly.items() if "/" not in name}
    passed = sum(result == "pass" for result in tests.values())
    failed = sorted(name for name, result in directly.items() if result == "fail")
    _log.info("%s on %s: %d of %d tests pass directly", version, each_server.name, passed, len(tests))
    _log.info("with subtests there are %d; failing directly: %s", len(directly), failed)
    assert len(tests) > LEAST_TESTS
    assert passed >= LEAST_PASSED * len(tests)
    different = {
        name: (directly.get(name), through.get(name))
        for name in directly.keys() | through.keys()
        if directly.get(name) != through.get(name)
    }
    assert not different


def _compile(version: str, folder: Path) -> Path:
    """Compile a release's rdb suite from a writable copy: go has to complete old releases' go.sum."""
    source = folder / "source"
    shutil.copytree(module_folder(version), source)
    for path in (source, *source.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    if version in REPAIRS:
        name, released, meant = REPAIRS[version]
        file = source / name
        text = file.read_text()
        assert released in text
        file.write_text(text.replace(released, meant))
    program = folder / "rdb.test"
    run = subprocess.run(
        [find_go(), "test", "-c", "-o", str(program), "./internal/rdb"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOFLAGS": "-mod=mod"},
    )
    assert run.returncode == 0, f"the rdb suite of {version} does not compile: {run.stderr}"
    return program


def _run(program: Path, address: str) -> Results:
    """Run a suite against an address and return what became of each test."""
    command = [find_go(), "tool", "test2json", str(program), "-test.v=test2json", "-test.timeout=300s"]
    run = subprocess.run(
        [*command, "-redis_addr", address], cwd=program.parent, capture_output=True, text=True, check=False
    )
    events = [json.loads(line) for line in run.stdout.splitlines()]
    results = {
        event["Test"]: event["Action"]
        for event in events
        if "Test" in event and event["Action"] in ("pass", "fail", "skip")
    }
    assert results, run.stdout[-2000:] + run.stderr[-2000:]
    return results
