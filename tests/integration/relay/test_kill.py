"""A sidecar that is killed under load, and started again, loses no task."""

import json
import time
from pathlib import Path

import pytest

from support.asynq import Harness
from support.pressure import settled
from support.servers import Server, SidecarFactory, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
TASKS = 6000
KILLS = 5


@pytest.mark.timeout(300)
def test_killing_the_sidecar_under_load_loses_no_task(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """SIGKILL several times while tasks are enqueued and processed: each accepted ID comes to its end."""
    sidecar = start_sidecar(redis_server.url, POLICY)
    accepted = tmp_path / "ids"
    options = ("-concurrency", "10", "-retry-delay", "1s", "-timeout", "120s")
    load = harness.start(
        "load",
        sidecar.address,
        *("-tasks", str(TASKS), "-producers", "4", "-rate", "1200", "-ids", str(accepted), *options),
        *("-archive-share", "0.2", "-retain-share", "0.3", "-give-up", "60s"),
    )
    for _ in range(KILLS):
        time.sleep(0.8)
        sidecar.kill()
        time.sleep(0.2)
        sidecar.start()
    with redis_server.client() as client:
        wait_until(lambda: settled(client, accepted), "tasks wait for ever", 90)
        # Nobody works on what is active still. Its leases are over in half a minute, which is not waited for.
        for name in client.zrange("asynq:{load}:lease", 0, -1):
            client.zadd("asynq:{load}:lease", {name: time.time() - 60}, xx=True)
    # A worker looks for such leases as it starts.
    harness.start("load", sidecar.address, "-tasks", "0", *options).communicate(timeout=140)
    output, errors = load.communicate(timeout=140)
    report = json.loads(output)
    assert not report["timed_out"], errors[-2000:]

    ids = set(accepted.read_text().split())
    assert len(ids) == report["enqueued"] >= TASKS * 0.9
    with redis_server.client() as client:
        prefix = "asynq:{load}:t:"
        left = {
            key.decode().removeprefix(prefix): (client.hget(key, "state"), client.ttl(key))
            for key in client.scan_iter(f"{prefix}*", count=1000)
        }
        unfinished = {name: state for name, (state, _) in left.items() if state not in (b"archived", b"completed")}
        assert not unfinished
        assert client.llen("asynq:{load}:pending") == client.llen("asynq:{load}:active") == 0
    # A task may have run twice (Asynq delivers at least once), but what is kept was kept by policy.
    assert all(3000 < ttl <= 3660 for _, ttl in left.values())
    kept = len(left) / len(ids)
    assert 0.4 < kept < 0.6
