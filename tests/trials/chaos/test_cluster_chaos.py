"""Short runs of the trials with a cluster (`make cluster-failover` has the long ones), and what the chaos rests on."""

import json
import random
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import ResponseError

from support.cluster import Node
from trials.chaos.cluster_trial import ClusterTrial
from trials.chaos.durable_cluster import DurableCluster, Piece, without_moves
from trials.chaos.history import End
from trials.chaos.policy import QUEUES
from trials.chaos.trial import ONE_PORT, Plan, report_of


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("way", "strike"), [("sidecar", "kill"), ("sidecar", "nodes"), (ONE_PORT, "kill"), (ONE_PORT, "reshard")]
)
def test_through_the_sidecar_every_task_of_a_cluster_is_found(way: str, strike: str, tmp_path: Path) -> None:
    """Each that had to survive is there, ended as its kind ends, with the TTL of its rule; live ones have none."""
    plan = Plan(way, strike, tasks=1_500, hasten=True, server="redis", folder=tmp_path)
    report = report_of(plan, ClusterTrial)
    # On a slow machine the load may be over before all slots have moved; the long trials are to notice that.
    assert [fault for fault in report.faults if not fault.startswith("no load")] == [], json.dumps(report.errors)
    assert report.accepted == plan.tasks
    assert min(report.places[state] for state in ("archived", "completed", "gone")) > 100
    # What was accepted before a failover, and no replica had, may be missing; without a failover nothing may.
    assert strike == "kill" or report.unreplicated == 0


@pytest.mark.timeout(240)
@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_what_is_written_is_followed_from_master_to_master(server: str, tmp_path: Path) -> None:
    """Tasks that go along with a slot, or with a failover, have no end there; those that are deleted meanwhile have."""
    cluster, dice = DurableCluster(server, tmp_path / "server"), random.Random(1)
    with ExitStack() as stack:
        cluster.start()
        stack.callback(cluster.end)
        written = _write(cluster, "first")
        deleted: set[str] = set()
        for strike in (cluster.moved, cluster.moved, cluster.crashed, cluster.failed_over, cluster.moved):
            with strike(dice):
                if strike == cluster.moved:
                    deleted.add(_delete_one(cluster, written - deleted))
            written |= _write(cluster, f"{len(written)}")
        found = cluster.history()
        there = {task for queue in QUEUES for task in _pending(cluster, queue)}
    assert found.faults == []
    assert found.lives.keys() == written == there
    ends = {task: [ending.end for ending in life.endings] for task, life in found.lives.items()}
    assert ends == {task: [End.BY_HAND] if task in deleted else [] for task in written}
    assert all(life.state == ("" if task in deleted else "pending") for task, life in found.lives.items())


def test_what_expires_as_tasks_move_is_told_from_what_moves(tmp_path: Path) -> None:
    """Redis deletes both in one step, and only one of them has come to the other node."""
    moved, expired = (f"asynq:{{mail}}:t:{name}".encode() for name in ("moved", "expired"))
    step = [[b"DEL", expired], [b"DEL", moved]]
    leaving = Piece(Node("one", 1, 1), tmp_path, 0, tmp_path, leaving=True)
    arriving = Piece(Node("other", 2, 2), tmp_path, 0, tmp_path, arriving=True)
    assert without_moves(step, leaving, {moved}) == [[b"DEL", expired]]
    assert without_moves([[b"RESTORE-ASKING", moved, b"0", b"x"]], arriving, set()) == []


def _write(cluster: DurableCluster, name: str) -> set[str]:
    """Write some pending tasks into each queue; return their IDs."""
    tasks = {f"order-{queue}-{name}-{number}": queue for queue in QUEUES for number in range(20)}
    for task, queue in tasks.items():
        with cluster.client(queue).pipeline(transaction=True) as pipeline:
            pipeline.hset(f"asynq:{{{queue}}}:t:{task}", mapping={"msg": "m", "state": "pending"})
            pipeline.lpush(f"asynq:{{{queue}}}:pending", task)
            pipeline.execute()
    return set(tasks)


def _pending(cluster: DurableCluster, queue: str) -> set[str]:
    found: Any = cluster.client(queue).lrange(f"asynq:{{{queue}}}:pending", 0, -1)
    return {task.decode() for task in found}


def _delete_one(cluster: DurableCluster, tasks: set[str]) -> str:
    """Delete a task that is still where the slot comes from; return its ID."""
    for task in sorted(tasks):
        queue = task.split("-")[1]
        with cluster.steady(queue) as steady, suppress(ResponseError):
            deleted: Any = 0 if steady else cluster.client(queue).delete(f"asynq:{{{queue}}}:t:{task}")
            if deleted:
                return task
    raise AssertionError("no task is left where the slot comes from")
