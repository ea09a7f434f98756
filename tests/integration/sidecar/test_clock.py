"""Clocks that jump: the sidecar's, and that of Redis."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.asynq import Harness
from support.clocks import Clock
from support.pressure import POLICY, load
from support.servers import Server, Sidecar, SidecarFactory, start_redis, wait_until

SKIP = {"type": "mail", "payload": '{"do": "skip"}', "max_retry": 0}
SOON = POLICY.replace("1h", "2s").replace("rules:", "grace: 2s\nrules:")


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """A clock that is right."""
    return Clock(tmp_path / "clock")


@pytest.fixture
def server(clock: Clock) -> Iterator[Server]:
    """A Redis that goes by the clock."""
    with start_redis(environment=clock.environment) as server:
        yield server


def archive(harness: Harness, sidecar: Sidecar, *names: str) -> None:
    """Let a worker archive tasks of these IDs."""
    harness.enqueue(sidecar.address, *({**SKIP, "id": name} for name in names))
    harness.work(sidecar.address)


def off_by(server: Server) -> float:
    """Return how many seconds the clock of Redis is off."""
    with server.client() as client:
        return float(client.time()[0]) - time.time()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("offset", ["+25h", "-25h"])
def test_the_sidecars_clock_jumps_under_load(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, clock: Clock, *, tmp_path: Path, offset: str
) -> None:
    """A day ahead, a day behind: each task comes to its end with the TTL of the policy, and what is due is swept."""
    sidecar = start_sidecar(redis_server.url, POLICY, **clock.environment)
    with load(sidecar, harness, redis_server, tmp_path / "ids"):
        clock.jump(offset)
    sidecar.reload(SOON)
    assert len({line[:10] for line in sidecar.log().splitlines()}) == 2, "the log has two dates"
    with redis_server.client() as client:
        client.flushall()
        archive(harness, sidecar, "a")
        wait_until(lambda: client.zcard("asynq:{default}:archived") == 0, "what is due is not swept")
        assert not client.exists("asynq:{default}:t:a")


def test_the_clock_of_redis_jumps_ahead_of_a_retention(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, clock: Clock
) -> None:
    """What is over by that clock goes, index and hash; what waits or runs stays; later tasks get their TTL."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.5")
    archive(harness, sidecar, "a", "b")
    harness.enqueue(sidecar.address, {**SKIP, "id": "waits"})
    clock.jump("+2h")
    assert 7100 < off_by(server) < 7300
    with server.client() as client:
        wait_until(lambda: client.zcard("asynq:{default}:archived") == 0, "ghosts stay")
        assert client.keys("asynq:{default}:t:*") == [b"asynq:{default}:t:waits"]
        assert client.lrange("asynq:{default}:pending", 0, -1) == [b"waits"]
        assert client.ttl("asynq:{default}:t:waits") == -1
        archive(harness, sidecar, "c")
        assert 3000 < client.ttl("asynq:{default}:t:c") <= 3660
        info = harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]
        assert info["archived"] == 2
        time.sleep(1.5)  # rounds of the sweeper
        assert client.zcard("asynq:{default}:archived") == 2


@pytest.mark.parametrize(("offset", "least", "most"), [("+30m", 1700, 1860), ("-30m", 5300, 5460)])
def test_the_clock_of_redis_jumps_within_a_retention(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, clock: Clock, *, offset: str, least: int, most: int
) -> None:
    """Nothing is removed before its TTL is over, by the clock of Redis; tasks that are run again live on."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.5")
    archive(harness, sidecar, "a", "b")
    clock.jump(offset)
    time.sleep(1.5)  # rounds of the sweeper
    with server.client() as client:
        assert client.zcard("asynq:{default}:archived") == 2
        assert least < client.ttl("asynq:{default}:t:a") <= most
        harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "a"})
        assert client.ttl("asynq:{default}:t:a") == -1
        archive(harness, sidecar, "c")
        assert 3000 < client.ttl("asynq:{default}:t:c") <= 3660
        clock.jump("+0")
        time.sleep(1.5)
        assert client.zcard("asynq:{default}:archived") == 3
        assert {client.hget(f"asynq:{{default}}:t:{name}", "state") for name in "abc"} == {b"archived"}
