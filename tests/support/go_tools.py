"""Helm and kustomize, built from their Go modules."""

import os
import subprocess
from pathlib import Path

from asynq_ttl.demo.harness import find_go
from support.cache import cache_folder

_MODULES = {
    "helm": ("helm.sh/helm/v3/cmd/helm", "v3.19.5"),
    "kustomize": ("sigs.k8s.io/kustomize/kustomize/v5", "v5.7.1"),
}


def go_tool(name: str) -> Path:
    """Build a tool, which takes minutes, or find it built; return the program's path."""
    module, version = _MODULES[name]
    cache = cache_folder() / f"{name}-{version}"
    program = cache / name
    if not program.exists():
        environment = os.environ | {"GOBIN": str(cache)}
        run = subprocess.run(
            [find_go(), "install", f"{module}@{version}"], env=environment, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
    return program
