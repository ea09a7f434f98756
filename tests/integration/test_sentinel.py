"""An upstream behind real Sentinels: found, followed, and no task lost when the master dies under load."""

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis as redis_py

from asynq import Harness
from sentinels import MASTER, Watched, start_watched
from servers import SidecarFactory, free_port, wait_until

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
FAILOVER = ("is down", "has moved from", "sweeping failed", "cannot load a wrapper")


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    """A master, a replica and three Sentinels."""
    with start_watched(tmp_path) as found:
        yield found


@pytest.mark.timeout(150)
def test_a_failover_under_load_loses_no_task(
    watched: Watched, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """The master is killed while tasks are enqueued and processed: each that was accepted comes to its end."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings += FAILOVER
    accepted = tmp_path / "ids"
    options = ("-tasks", "3000", "-producers", "4", "-rate", "400", "-concurrency", "10", "-ids", str(accepted))
    ends = ("-archive-share", "0.2", "-retain-share", "0.3", "-give-up", "60s", "-timeout", "120s")
    load = harness.start("load", sidecar.address, *options, *ends)
    wait_until(lambda: accepted.exists() and accepted.read_text().count("\n") > 500, "there is no load")
    old = watched.master()
    old.process.kill()
    wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
    new = watched.master()
    assert new is not old
    with new.client() as client:
        before: object = None

        def done() -> bool:
            # All is enqueued, and nothing has been waiting for two seconds.
            nonlocal before
            last, before = before, accepted.read_text().count("\n")
            time.sleep(2)
            waiting = client.llen("asynq:{load}:pending") + client.zcard("asynq:{load}:retry")
            return last == before and not waiting

        wait_until(done, "tasks wait for ever", 60)
        load.kill()
        load.communicate()
        ids = set(accepted.read_text().split())
        assert len(ids) > 1000
        # A worker whose poll the dying master still carried out never saw its task. It is active, and Asynq's recoverer
        # runs it again when its lease is over, a minute or two later: as without the sidecar.
        active = {name.decode() for name in client.lrange("asynq:{load}:active", 0, -1)}
        assert len(active) < len(ids) / 10
        assert active == {name.decode() for name in client.zrange("asynq:{load}:lease", 0, -1)}
        assert all(client.hget(f"asynq:{{load}}:t:{name}", "msg") for name in active)
        kept = {}
        for key in client.scan_iter("asynq:{load}:t:*", count=1000):
            kept[key.decode().rpartition(":t:")[2]] = (client.hget(key, "state"), client.ttl(key))
        ended = {name: value for name, value in kept.items() if name not in active}
        assert {state for state, _ in ended.values()} <= {b"archived", b"completed"}
        assert all(3000 < ttl <= 3660 for _, ttl in ended.values())
        assert 0.4 < len(ended) / (len(ids) - len(active)) < 0.6
    # The new master's address is in what is traced from then on.
    assert f"to 127.0.0.1:{new.port}" in sidecar.log()


@pytest.mark.timeout(120)
def test_an_old_master_that_hangs_is_let_go(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """A client that waits for a master that does not answer is hung up on, and reaches the new one by itself."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings += FAILOVER
    old = watched.master()
    with sidecar.client() as client, ThreadPoolExecutor(1) as thread:
        assert client.set("before", "1")
        old.process.send_signal(signal.SIGSTOP)
        try:
            # redis-py sends it again when it is hung up on: it is the new master that has the answer.
            answer = thread.submit(client.blpop, ["list"], timeout=30)
            wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
            with watched.master().client() as direct:
                direct.rpush("list", "x")
            assert answer.result() == (b"list", b"x")
        finally:
            old.process.send_signal(signal.SIGCONT)
        assert client.get("before") == b"1"
        assert client.set("after", "2")
        assert client.execute_command("ROLE")[0] == b"master"
    with watched.master().client() as direct:
        assert direct.get("after") == b"2"


@pytest.mark.timeout(120)
def test_a_failover_that_an_operator_asks_for(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """`SENTINEL FAILOVER`: nothing is down, and still the clients move, pub/sub too."""
    sidecar = start_sidecar(watched.url, POLICY)
    sidecar.expected_warnings += FAILOVER
    old = watched.master()
    with sidecar.client() as client, client.pubsub() as channel:
        channel.subscribe("asynq:cancel")
        assert channel.get_message(timeout=5)
        with redis_py.Redis(port=watched.sentinels[0]) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", MASTER)
        wait_until(lambda: "has moved from" in sidecar.log(), "the sidecar does not follow", 30)
        wait_until(lambda: watched.master() is not old, "there was no failover", 30)
        wait_until(lambda: _role(client) == b"master", "the client is at no master")
        with pytest.raises(redis_py.ConnectionError):
            channel.connection.read_response(timeout=5)


def test_without_any_sentinel_clients_are_told_why(start_sidecar: SidecarFactory) -> None:
    """It starts, and says what is missing; a Sentinel that does not know the master is named."""
    sidecar = start_sidecar(f"redis+sentinel://127.0.0.1:{free_port()}/{MASTER}", POLICY)
    sidecar.expected_warnings += ("is down", "does not help", "sweeping failed")
    with (
        sidecar.client() as client,
        pytest.raises(redis_py.RedisError, match=f"no Sentinel has said yet where {MASTER}"),
    ):
        client.ping()


@pytest.mark.timeout(60)
def test_a_master_that_the_sentinels_do_not_know(watched: Watched, start_sidecar: SidecarFactory) -> None:
    """Their own words are in the log. One Sentinel that is away does not matter."""
    sidecar = start_sidecar(watched.url.replace(MASTER, "another"), POLICY)
    sidecar.expected_warnings += ("is down", "does not help", "sweeping failed")
    wait_until(lambda: sidecar.log().count("does not help: No such master") == 3, "they are not asked")
    away = watched.url.replace("redis+sentinel://", f"redis+sentinel://127.0.0.1:{free_port()},")
    other = start_sidecar(away, POLICY)
    other.expected_warnings.append("does not help")
    with other.client() as client:
        assert client.ping()


def _role(client: "redis_py.Redis") -> bytes:
    try:
        role: bytes = client.execute_command("ROLE")[0]
    except redis_py.RedisError:
        return b""
    return role
