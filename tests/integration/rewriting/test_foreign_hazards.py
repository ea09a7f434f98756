"""The hazards H1 to H6 where a foreign program has ended the task: by Lua wrapped by effect, or by plain commands.

`test_hazards.py` shows that plain Asynq on Redis alone is damaged by each of these. Here a task gets its TTL by effect,
or because the sweeper adopts it, and each story must end well.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from redis import Redis

from support.asynq import Harness
from support.foreign_worker import FAIL, MOVE
from support.servers import Server, Sidecar, SidecarFactory, wait_until
from support.task_message import encode_task

POLICY = """
version: 1
grace: 30s
rules:
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}
"""
QUEUE = "asynq:{default}:"


@dataclass
class Scene:
    """A sidecar that sweeps, a client past it, and a foreign program that ends tasks in one way."""

    client: "Redis"
    harness: Harness
    sidecar: Sidecar
    by_effect: bool

    def end(self, state: str, *names: str) -> None:
        """Let the foreign program end tasks, and wait for their TTL."""
        self.client.sadd("asynq:queues", "default")
        for name in names:
            key, message = f"{QUEUE}t:{name}", encode_task("x", name, "default", retention_seconds=3600)
            self.client.hset(key, mapping={"msg": message, "state": "active"})
            self.client.lpush(f"{QUEUE}active", name)
            if self.by_effect:
                self._end_by_script(key, name, state, message)
                assert self.client.ttl(key) > 3000  # in the same step
            else:
                self.client.lrem(f"{QUEUE}active", 1, name)
                self.client.hset(key, "state", state)
                self.client.zadd(f"{QUEUE}{state}", {name: time.time() + (3600 if state == "completed" else 0)})
        wait_until(lambda: all(self.client.ttl(f"{QUEUE}t:{name}") > 3000 for name in names), "no TTL comes", 60)

    def _end_by_script(self, key: str, name: str, state: str, message: bytes) -> None:
        index, active = f"{QUEUE}{state}", f"{QUEUE}active"
        with self.sidecar.client() as worker:
            if state == "archived":
                worker.execute_command("EVAL", FAIL, 3, key, active, index, name, message)
            else:
                worker.execute_command("EVAL", MOVE, 3, key, active, index, name, state, int(time.time()) + 3600)

    def expire(self, name: str) -> None:
        """Let a task's time be over, and wait until it is gone."""
        assert self.client.pexpire(f"{QUEUE}t:{name}", 4000)
        wait_until(lambda: not self.client.exists(f"{QUEUE}t:{name}") and not self.places(name), "it stays", 60)

    def enqueue(self, name: str, **options: Any) -> None:
        """Enqueue a task by Asynq."""
        answer = self.harness.enqueue(self.sidecar.address, {"id": name, "type": "x", **options})[0]
        assert answer["id"] == name, answer

    def inspect(self, op: str, **fields: Any) -> Any:
        """Do one operation of the Inspector."""
        return self.harness.inspect(self.sidecar.address, {"op": op, "queue": "default", **fields})[0]

    def state(self, name: str) -> str:
        """Return a task's state; empty where it is gone."""
        found: Any = self.client.hget(f"{QUEUE}t:{name}", "state")
        return (found or b"").decode()

    def places(self, name: str) -> set[str]:
        """Return the indexes of ended and waiting tasks that an ID is in."""
        indexes = ("archived", "completed", "scheduled", "retry", "lease")
        return {index for index in indexes if self.client.zscore(QUEUE + index, name) is not None}


@pytest.fixture(params=["by effect", "adopted"])
def scene(
    request: pytest.FixtureRequest, server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> Iterator[Scene]:
    """A scene for each net, on each kind of server."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2")
    with server.client() as client:
        yield Scene(client, harness, sidecar, by_effect=request.param == "by effect")


def test_h1_no_row_is_left(scene: Scene) -> None:
    """The queue can be looked at afterwards."""
    scene.end("archived", "dead")
    scene.expire("dead")
    assert scene.inspect("queue_info")["archived"] == 0


def test_h2_and_h3_what_runs_again_is_whole_and_stays(scene: Scene) -> None:
    """What is gone is not run; what is run has no TTL from then on."""
    scene.end("archived", "gone", "one", "two")
    scene.expire("gone")
    scene.inspect("run_task", id="one")
    assert scene.inspect("run_all", state="archived") == 1
    assert [scene.state(name) for name in ("gone", "one", "two")] == ["", "pending", "pending"]
    assert [scene.client.ttl(f"{QUEUE}t:{name}") for name in ("one", "two")] == [-1, -1]


def test_h4_an_id_completes_again(scene: Scene) -> None:
    """By Asynq's own worker, with a TTL."""
    scene.end("completed", "again")
    scene.expire("again")
    scene.enqueue("again", retention="1h")
    scene.harness.work(scene.sidecar.address)
    assert (scene.state("again"), scene.places("again")) == ("completed", {"completed"})
    assert 3000 < scene.client.ttl(f"{QUEUE}t:again") <= 3630


def test_h5_and_h6_a_new_life_is_left_alone(scene: Scene) -> None:
    """By the janitor, and by whoever archives another task."""
    scene.end("completed", "done")
    scene.end("archived", "dead")
    for name in ("done", "dead"):
        scene.expire(name)
        scene.enqueue(name, process_in="1h")
    scene.enqueue("other", payload='{"do": "skip"}')
    worker = scene.harness.serve(scene.sidecar.address, "-task-check-interval", "20ms", "-janitor-interval", "100ms")
    wait_until(lambda: scene.state("other") == "archived", "the other one is not archived", 60)
    worker.stop()
    assert [scene.state(name) for name in ("done", "dead")] == ["scheduled", "scheduled"]
    assert scene.places("other") == {"archived"}
