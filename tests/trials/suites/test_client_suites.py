"""A client's own test suite, unchanged in what it asserts, at a server and through the sidecar: the same specs pass."""

import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from asynq_ttl.demo.harness import find_go
from support.asynq_source import module_folder
from support.servers import Server, SidecarFactory

GO_REDIS = ("v9.23.0", "github.com/redis/go-redis/v9")
RULES = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: keep}}]"
POLICIES = {"built-in": None, "enforce": RULES, "shadow": RULES.replace("version: 1", "version: 1\nmode: shadow")}
# What needs a cluster, Sentinels, modules of Redis or a server with TLS.
SKIPPED = (
    "[Cc]luster|Ring|Sentinel|Failover|UniversalClient|Command Tips|TLS"
    "|Search|FT\\.|JSON|Timeseries|Probabilistic|VectorSet|Array|module loadex|WaitAOF"
)
Results = dict[str, str]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build go-redis's suite. It takes its server's port from the environment, and starts no servers of its own."""
    folder = tmp_path_factory.mktemp("go-redis") / "source"
    shutil.copytree(module_folder(*GO_REDIS), folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)
    main = folder / "main_test.go"
    text = main.read_text().replace('redisStackPort = "6379"', 'redisStackPort = os.Getenv("SUITE_PORT")')
    main.write_text(text.replace("if !RECluster {", "if false {"))
    command = [find_go(), "test", "-c", "-o", "suite", "."]
    built = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    return folder / "suite"


def run_suite(suite: Path, port: int) -> Results:
    """Run the suite at a port; return what became of each spec, by its name."""
    report = suite.with_name("report.json")
    report.unlink(missing_ok=True)
    options = ["--ginkgo.seed=1", "--ginkgo.skip", SKIPPED, "--ginkgo.json-report", str(report)]
    subprocess.run(
        [str(suite), "-test.run=TestGinkgoSuite", *options],
        cwd=suite.parent,
        env={**os.environ, "SUITE_PORT": str(port), "REDIS_VERSION": "7.4"},
        capture_output=True,
        timeout=500,
        check=False,  # a few specs fail at any server that is not of the newest release
    )
    specs = [spec for spec in json.loads(report.read_text())[0]["SpecReports"] if spec["LeafNodeType"] == "It"]
    named = [(" ".join([*(spec["ContainerHierarchyTexts"] or ()), spec["LeafNodeText"]]), spec) for spec in specs]
    # Some share a name; their order is that of the seed.
    seen: Counter[str] = Counter()
    results: Results = {}
    for name, spec in named:
        seen[name] += 1
        results[f"{name} #{seen[name]}"] = spec["State"]
    return results


@pytest.fixture(scope="module")
def direct(suite: Path, shared_valkey: Server) -> Results:
    """What becomes of the specs at the server itself."""
    return run_suite(suite, shared_valkey.port)


@pytest.mark.suite
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_go_redis_sees_no_sidecar(
    suite: Path, direct: Results, valkey_server: Server, start_sidecar: SidecarFactory, policy: str | None
) -> None:
    """Commands, pipelines, transactions, pub/sub, scripts, RESP3 pushes, pools: spec by spec as without it."""
    sidecar = start_sidecar(valkey_server.url, policy)
    # It asks for a cluster's nodes, and keeps the server busy with a function that it then kills.
    sidecar.expected_warnings += ["no Redis Cluster", "is down"]
    through = run_suite(suite, sidecar.port)
    assert Counter(direct.values())["passed"] > 500
    different = {name: (state, through.get(name)) for name, state in direct.items() if through.get(name) != state}
    assert not different
    assert through.keys() == direct.keys()
