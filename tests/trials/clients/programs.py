"""The programs of this trial: clients of Asynq that are not Asynq, and of clusters. Run as a script, it builds all.

| program | arguments |
| --- | --- |
| Rust crates, asyrq | `ADDRESS enqueue ID TYPE RETENTION MAX_RETRY`, `ADDRESS work` (until SIGINT) |
| Rust crates | `ADDRESS run ID`, `... archive ID`, `... run-all`, `... archive-all`: as Asynq's Inspector does |
| py-asynq | `ADDRESS QUEUE TYPE PAYLOAD MAX_RETRY`: it only enqueues |
| asynqmon | `ADDRESS`: it prints where it listens |
| ioredis, Lettuce | `HOST PORT PROTOCOL`; what they are told, `test_cluster_clients.py` says |

Handlers fail on types of tasks that begin with `fail`. What is missing, such as cargo or Go, fails.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from asynq_ttl.demo.harness import find_go
from support.cache import cache_folder, kept

_HERE = Path(__file__).parent


def rust_clients() -> Path:
    """Return the program with the Rust crates; its first argument is the crate."""
    source = _HERE / "rust"

    def make(folder: Path) -> None:
        cargo = _tool("cargo", "cargo-web")
        options = ["--locked", "--debug", "--path", str(source), "--root", str(folder)]
        # What has been compiled is kept for when only the program has changed.
        target = cache_folder() / f"rust-target-{os.getuid()}"
        _run([cargo, "install", *options], CARGO_TARGET_DIR=str(target))

    sources = [*source.glob("Cargo.*"), *source.glob("src/*.rs")]
    return kept("rust-clients", sources, make) / "bin" / "rust-clients"


def asynqmon() -> Path:
    """Return the program with asynqmon's HTTP API."""
    source = _HERE / "asynqmon"

    def make(folder: Path) -> None:
        _run([find_go(), "build", "-trimpath", "-o", str(folder / "asynqmon"), "."], cwd=source)

    return kept("asynqmon", source.iterdir(), make) / "asynqmon"


def python_client(name: str) -> list[str]:
    """Return the command of a Python client, `asyrq` or `py-asynq`: its own Python, and its program."""
    requirements = _HERE / "python" / f"{name}.txt"

    def make(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)])
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--requirement", str(requirements)])

    python = kept(name, [requirements], make) / "bin" / "python"
    return [str(python), str(_HERE / "python" / f"{name.replace('-', '_')}_client.py")]


def ioredis() -> list[str]:
    """Return the command of the cluster client in JavaScript."""
    source = _HERE / "node"

    def make(folder: Path) -> None:
        for file in source.iterdir():
            shutil.copy(file, folder)
        npm = _tool("npm", "nodejs npm")
        _run([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)

    folder = kept("ioredis", source.iterdir(), make)
    return [_tool("node", "nodejs"), str(folder / "conversation.cjs")]


def lettuce() -> list[str]:
    """Return the command of the cluster client in Java."""
    source = _HERE / "java"

    def make(folder: Path) -> None:
        maven, javac = _tool("mvn", "maven"), _tool("javac", "default-jdk-headless")
        goal = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
        _run([maven, "-q", "-B", "-f", str(source / "pom.xml"), goal, f"-DoutputDirectory={folder}"])
        _run([javac, "-cp", f"{folder}/*", "-d", str(folder), str(source / "Conversation.java")])

    folder = kept("lettuce", source.iterdir(), make)
    quick = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return [_tool("java", "default-jdk-headless"), *quick, "-cp", f"{folder}:{folder}/*", "Conversation"]


def _tool(name: str, packages: str) -> str:
    path = shutil.which(name)
    assert path, f"there is no {name} on PATH: apt-get install {packages}"
    return path


def _run(command: list[str], cwd: Path | None = None, **environment: str) -> None:
    run = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{' '.join(command)}: {run.stderr}"


if __name__ == "__main__":
    rust_clients()
    asynqmon()
    for client in ("asyrq", "py-asynq"):
        python_client(client)
    ioredis()
    lettuce()
