"""With a sink, no task goes that the sink has not taken: whatever the worker, the sink and the sidecar do meanwhile.

Most of the time these tests wait. What befalls the sink or the sidecar is the same in front of every server, so each
such case has one of them.
"""

import os
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from support.asynq import Harness
from support.existing_keys import QUEUE, members, now, put, tasks, ttl
from support.foreign_worker import FAIL, MOVE
from support.servers import Server, SidecarFactory, wait_until
from support.task_message import encode_task
from support.webhook import Webhook

POLICY = """
version: 1
grace: 8s
rules:
  - {name: all, archived: {ttl: 3s}, completed: {ttl: 3s}}
"""
SINK_FAILS = "the sink .* failed"

DEAD = [{"id": f"dead-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(100)]
DONE = [{"id": f"done-{number}", "type": "x", "payload": "{}", "retention": "1h"} for number in range(100)]
ALL = {str(task["id"]) for task in [*DEAD, *DONE]}

each_way_of_keeping = pytest.mark.parametrize(
    ("server", "kept"), [("redis", "3s"), ("valkey", "delete")], indirect=["server"]
)


def test_all_that_a_worker_ends_arrives(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Each once, with a worker whose janitor runs behind the sidecar."""
    with Webhook() as sink, server.client() as client:
        sidecar = start_sidecar(server.url, POLICY, sink=sink.address)
        worker = harness.serve(sidecar.address)
        harness.enqueue(sidecar.address, *DEAD, *DONE)
        wait_until(lambda: sink.ids == ALL, "not all arrive", 25)
        wait_until(lambda: not tasks(client), "not all are removed")
        assert len(sink.taken) == len(ALL)
        worker.stop()


@pytest.mark.parametrize(("server", "seconds"), [("redis", 0.0), ("valkey", 11.0)], indirect=["server"])
def test_a_sink_that_is_down_for_a_time_gets_all_afterwards(
    seconds: float, server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Whether it answers with an error or not at all; the janitor and every key's grace are over meanwhile."""
    with Webhook() as sink, server.client() as client:
        sink.status, sink.seconds = 500, seconds
        sidecar = start_sidecar(server.url, POLICY, sweep_interval="1", sink=sink.address)
        sidecar.expected_warnings.append(SINK_FAILS)
        worker = harness.serve(sidecar.address)
        harness.enqueue(sidecar.address, *DEAD, *DONE)
        wait_until(lambda: len(members(client, "archived") | members(client, "completed")) == len(ALL), "not all end")
        time.sleep(12)
        assert tasks(client) == ALL
        assert not sink.taken
        sink.status, sink.seconds = 200, 0
        wait_until(lambda: sink.ids == ALL, "not all arrive", 40)
        wait_until(lambda: not tasks(client), "not all are removed")
        worker.stop()


def test_a_sidecar_that_is_killed_loses_nothing(
    valkey_server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """It is killed while the sink takes tasks, and stays away for longer than the policy's grace."""
    with Webhook() as sink, valkey_server.client() as client:
        sink.seconds = 1
        sidecar = start_sidecar(valkey_server.url, POLICY, sweep_interval="1", sink=sink.address)
        harness.enqueue(sidecar.address, *DEAD, *DONE)
        harness.work(sidecar.address)
        wait_until(lambda: sink.taken, "nothing arrives")
        sidecar.kill()
        time.sleep(9)
        assert tasks(client) | sink.ids == ALL
        sink.seconds = 0
        sidecar.start()
        wait_until(lambda: not tasks(client), "not all are removed", 60)
        assert sink.ids == ALL


def test_keys_that_are_about_to_expire_are_kept_for_a_sink(redis_server: Server, start_sidecar: SidecarFactory) -> None:
    """They were written without a sink, with a short grace; now there is one, and it does not answer."""
    with Webhook() as sink, redis_server.client() as client:
        sink.status, sink.seconds = 500, 11
        started = now(client)
        with client.pipeline() as pipeline:
            for number in range(700):
                put(pipeline, f"due-{number}", "archived", started - 5, ttl=9_000)
            pipeline.execute()
        put(client, "not due", "completed", now(client) + 20, ttl=9_000)
        sidecar = start_sidecar(redis_server.url, POLICY, sweep_interval="1", sink=sink.address)
        sidecar.expected_warnings.append(SINK_FAILS)
        with client.pipeline() as pipeline:
            for name in tasks(client):
                pipeline.expire(f"{QUEUE}t:{name}", 8)
            pipeline.execute()
        wait_until(lambda: ttl(client, "due-0") > 3_000 and ttl(client, "not due") > 3_000, "they do not get more time")
        time.sleep(9)
        assert len(tasks(client)) == 701
        sink.status, sink.seconds = 200, 0
        wait_until(lambda: not tasks(client), "not all are removed", 60)
        assert len(sink.ids) == 701


def test_a_disk_that_hangs_stops_nothing_else(
    redis_server: Server, harness: Harness, start_sidecar: SidecarFactory, tmp_path: Path
) -> None:
    """The sweeper goes on, the reason is told, and the sidecar ends when it is asked to. A pipe does as such a disk."""
    os.mkfifo(tmp_path / "tasks")
    with redis_server.client() as client:
        sink = f"file:{tmp_path / 'tasks'}"
        sidecar = start_sidecar(redis_server.url, POLICY, sweep_interval="1", sink=sink, admin="127.0.0.1:0")
        sidecar.expected_warnings.append(SINK_FAILS)
        harness.enqueue(sidecar.address, *DEAD[:5])
        harness.work(sidecar.address)
        wait_until(lambda: "the disk does not answer" in sidecar.log(), "the sink does not fail")
        with urlopen(f"http://{sidecar.admin}/readyz") as answer:
            assert b"ok, but the sink" in answer.read()
        with urlopen(f"http://{sidecar.admin}/metrics") as answer:
            assert b"asynq_ttl_sink_failing 1.0" in answer.read()
        client.zadd(f"{QUEUE}archived", {"ghost": 1})
        wait_until(lambda: client.zscore(f"{QUEUE}archived", "ghost") is None, "a ghost is not dropped")
        assert tasks(client) == {task["id"] for task in DEAD[:5]}
        assert sidecar.stop() == 0
        assert "ended by force" not in sidecar.log()


@each_way_of_keeping
def test_what_is_archived_by_hand_arrives(
    kept: str, server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """All pending ones at once, and one by itself."""
    with Webhook() as sink, server.client() as client:
        sidecar = start_sidecar(server.url, POLICY.replace("3s", kept), sweep_interval="1", sink=sink.address)
        harness.enqueue(sidecar.address, *DONE)
        harness.inspect(
            sidecar.address,
            {"op": "archive_task", "queue": "default", "id": "done-0"},
            {"op": "archive_all", "queue": "default", "state": "pending"},
        )
        wait_until(lambda: not tasks(client), "not all are removed", 25)
        assert sink.ids == {str(task["id"]) for task in DONE}


@each_way_of_keeping
def test_what_a_foreign_script_ends_arrives(kept: str, server: Server, start_sidecar: SidecarFactory) -> None:
    """By effect: nothing is removed that the sink has not taken, also what the policy does not keep at all.

    What has a score that is no time in seconds is due when half of its key's grace is left.
    """
    names, undated = [f"foreign-{number}" for number in range(20)], [f"undated-{number}" for number in range(3)]
    with Webhook() as sink, server.client() as client:
        sink.status = 500
        sidecar = start_sidecar(server.url, POLICY.replace("3s", kept), sweep_interval="1", sink=sink.address)
        sidecar.expected_warnings.append(SINK_FAILS)
        client.sadd("asynq:queues", "default")
        with sidecar.client() as worker:
            for name in (*names, *undated):
                key, message = f"{QUEUE}t:{name}", encode_task("x", name, "default")
                client.hset(key, mapping={"msg": message, "state": "active"})
                client.lpush(f"{QUEUE}active", name)
                call = (3, key, f"{QUEUE}active", f"{QUEUE}archived", name)
                if name in names:
                    worker.execute_command("EVAL", MOVE, *call, "archived", int(time.time()))
                else:
                    worker.execute_command("EVAL", FAIL, *call, message)
        wait_until(lambda: "the sink" in sidecar.log(), "the sink is not asked", 60)
        assert tasks(client) == {*names, *undated}
        sink.status = 200
        wait_until(lambda: tasks(client) == set(undated), "not all are removed", 60)
        assert sink.ids == set(names)
        for name in undated:
            assert 1_800 < ttl(client, name) <= 3_610
            client.expire(f"{QUEUE}t:{name}", 1_700)
        wait_until(lambda: not tasks(client), "what has no date is not removed", 60)
        assert sink.ids == {*names, *undated}


def test_what_is_over_a_cap_arrives(valkey_server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """While the sink is down the archive grows; then it gets the oldest, and the newest stay, in no hurry to expire."""
    policy = POLICY.replace("archived: {ttl: 3s}", "archived: {ttl: 1h, max: 10}")
    with Webhook() as sink, valkey_server.client() as client:
        sink.status = 500
        sidecar = start_sidecar(valkey_server.url, policy, sweep_interval="1", sink=sink.address)
        sidecar.expected_warnings.append(SINK_FAILS)
        harness.enqueue(sidecar.address, *DEAD[:50])
        harness.work(sidecar.address)
        harness.enqueue(sidecar.address, *DONE[:10])
        time.sleep(1.1)  # scores are whole seconds
        harness.inspect(sidecar.address, {"op": "archive_all", "queue": "default", "state": "pending"})
        newest = {str(task["id"]) for task in DONE[:10]}
        time.sleep(2)
        assert len(members(client, "archived")) == 60
        sink.status = 200
        wait_until(lambda: members(client, "archived") == newest, "the oldest do not go", 25)
        assert sink.ids == {str(task["id"]) for task in DEAD[:50]}
        assert tasks(client) == newest
        assert all(3_600 < ttl(client, name) <= 7_200 for name in newest)
