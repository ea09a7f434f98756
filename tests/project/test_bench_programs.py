"""The benchmarks work: a little of everything that they measure. What they measure is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS

from support.paths import ROOT

RUN = ROOT / "bench" / "run.py"


@pytest.mark.timeout(400)
def test_a_smoke_run_measures_and_reports(tmp_path: Path) -> None:
    """Real Asynq through the sidecar and past it, script costs, one connection: into JSON, Markdown and SVG."""
    command = [sys.executable, str(RUN), "smoke", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "comparison.json").read_text())
    measured = {(sample["load"], sample["contestant"]) for sample in content["samples"]}
    contestants, loads = ("direct", "asynq-ttl-traced"), ("asynq", "one-connection", "idle")
    assert measured == {(load, contestant) for load in loads for contestant in contestants}
    assert content["environment"]["server"] == "Redis 6.2.5"
    told = (tmp_path / "report.md").read_text()
    assert all(f"| {target.figure} |" in told for target in TARGETS)
    assert "| dequeue | dequeueCmd |" in told
    assert {file.name for file in tmp_path.glob("*.svg")} == {"cpu.svg", "latency.svg"}
