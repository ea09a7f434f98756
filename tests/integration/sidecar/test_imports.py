"""What a running sidecar has imported. Each library is megabytes beside every worker."""

import subprocess
import sys
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

from support.imports import telling
from support.servers import Server, free_port, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 7d}, completed: {ttl: keep}}]\n"
NEEDED = {
    "asynq_ttl",
    "click",
    "h11",
    "hiredis",
    "opentelemetry",
    "prometheus_client",
    "redis",
    "typing_extensions",
    "uvloop",
    "yaml",
}
# redis-py looks whether the one is there, which only tests need; the other is a part of uvloop.
BESIDE = {"cryptography", "cython_runtime"}


def test_a_sidecar_with_everything_on_imports_few_libraries(redis_server: Server, tmp_path: Path) -> None:
    """Policy, admin server, decision log, sink and sweeper, but no exporter. One library more is to be a decision."""
    admin = f"127.0.0.1:{free_port()}"
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    options = {"listen": "127.0.0.1:0", "upstream": redis_server.url, "policy": policy, "admin": admin}
    options |= {"decisions": tmp_path / "decisions.jsonl", "sink": f"file:{tmp_path / 'sink'}"}
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]

    def answers(path: str, method: str = "GET") -> bytes:
        try:
            with urlopen(Request(f"http://{admin}{path}", method=method), timeout=10) as answer:
                return bytes(answer.read())
        except URLError:
            return b""

    program = telling("serve", *arguments, main="asynq_ttl.cli.main")
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: answers("/readyz") == b"ok\n", "it does not get ready")
        assert b"asynq_ttl_commands_total" in answers("/metrics")
        assert b"</html>" in answers("/")
        assert answers("/api/drain", "POST")
        told, _ = process.communicate(timeout=20)
    imported = {name.partition(".")[0] for name in told.splitlines()[-1].split()}
    libraries = {name for name in imported - sys.stdlib_module_names if not name.startswith("_")}
    assert libraries - BESIDE == NEEDED
