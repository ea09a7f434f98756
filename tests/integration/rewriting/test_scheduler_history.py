"""Real Asynq's Scheduler through the sidecar: the history of an entry gets a TTL in the command that adds to it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from support.asynq import Harness
from support.asynq_source import VERSIONS, scripts
from support.filler import build
from support.servers import Server, SidecarFactory, wait_until

POLICY = """
version: 1
scheduler_history: 30d
rules:
  - name: default
    archived: {ttl: keep}
"""
MONTH = 30 * 86_400
HISTORY = "asynq:scheduler_history:"
SCRIPT = "recordSchedulerEnqueueEventCmd"


@contextmanager
def scheduling(version: str, address: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a scheduler of a release; yield it and the ID of its entry."""
    command = [str(build(version, "scheduler")), "-redis", address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


def recorded(client: redis.Redis, key: str) -> None:
    """Wait until there is a history."""
    wait_until(lambda: bool(client.exists(key)), "the scheduler has recorded nothing")


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_a_scheduler_that_is_killed_leaves_nothing_for_ever(
    server: Server, start_sidecar: SidecarFactory, harness: Harness, version: str
) -> None:
    """The history lives for a month more. An inspector reads it as ever; one that ends well removes it as ever."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as client:
        # As in production: Redis has served Asynq before, so its client calls by the SHA alone.
        client.script_load(scripts(version)[SCRIPT].decode())
        with scheduling(version, sidecar.address) as (process, entry):
            recorded(client, HISTORY + entry)
            process.kill()
            process.wait()
        assert MONTH - 60 < client.ttl(HISTORY + entry) <= MONTH
        (events,) = harness.inspect(sidecar.address, {"op": "scheduler_events", "id": entry})
        assert len(events) == client.zcard(HISTORY + entry) > 0
        with scheduling(version, sidecar.address) as (process, entry):
            recorded(client, HISTORY + entry)
            process.terminate()
            process.wait()
        assert not client.exists(HISTORY + entry)


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_what_is_not_enforced_changes_nothing(server: Server, start_sidecar: SidecarFactory, mode: str) -> None:
    """The history has no TTL; in shadow mode it is told of."""
    sidecar = start_sidecar(server.url, POLICY.replace("version: 1", f"version: 1\nmode: {mode}"), log_level="debug")
    with server.client() as direct, sidecar.client() as client:
        assert _record(client, "v0.26.0") == b"OK"
        assert direct.ttl(f"{HISTORY}e") == -1
    told = "record: rule scheduler_history, ttl (shadow)"
    wait_until(lambda: (told in sidecar.log()) is (mode == "shadow"), "it is not told of")


@pytest.mark.parametrize("version", VERSIONS)
def test_each_release_s_script(server: Server, start_sidecar: SidecarFactory, version: str) -> None:
    """The reply and the entries are as ever, the time begins anew, and an error gives no TTL."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        direct.zadd(f"{HISTORY}e", {"old": 1})
        assert _record(client, version) == b"OK"
        assert direct.zrange(f"{HISTORY}e", 0, -1) == [b"old", b"event"]
        assert MONTH - 60 < direct.ttl(f"{HISTORY}e") <= MONTH
        direct.expire(f"{HISTORY}e", 100)
        assert _record(client, version) == b"OK"
        assert direct.ttl(f"{HISTORY}e") > 100
        direct.set(f"{HISTORY}e", "no history")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            _record(client, version)
        assert direct.ttl(f"{HISTORY}e") == -1


def test_without_a_word_about_histories_the_command_goes_as_it_came(
    server: Server, start_sidecar: SidecarFactory
) -> None:
    """Also once the policy says nothing of them any more: the TTL that there is stays."""
    sidecar = start_sidecar(server.url, POLICY)
    with server.client() as direct, sidecar.client() as client:
        _record(client, "v0.26.0")
        direct.expire(f"{HISTORY}e", 100)
        sidecar.reload(POLICY.replace("30d", "keep"))
        assert _record(client, "v0.26.0") == b"OK"
        assert 0 < direct.ttl(f"{HISTORY}e") <= 100


def _record(client: redis.Redis, version: str) -> object:
    """Add to the history of the entry `e`, as a release does."""
    return client.eval(scripts(version)[SCRIPT].decode(), 1, f"{HISTORY}e", 1_700_000_000, "event", 1000)
