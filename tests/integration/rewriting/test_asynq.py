"""Real Asynq through the sidecar: what gets a TTL, what must not, on Redis and on Valkey."""

from typing import Any

import pytest

from support.asynq import Harness
from support.servers import Server, SidecarFactory, wait_until

POLICY = """
version: 1
grace: 30s
rules:
  - name: noise
    match: {type: "ping:*"}
    archived: {ttl: delete}
    completed: {ttl: delete}
  - name: precious
    match: {type: "payment:*"}
    archived: {ttl: forever}
    completed: {ttl: forever}
  - name: only-keep
    match: {queue: own}
    archived: {ttl: keep}
    completed: {ttl: keep}
  - name: default
    match: {queue: [default, low, "bulk-*"]}
    archived: {ttl: 1h}
    completed: {ttl: 2h}
"""
DAY = 86_400
# How a task is enqueued that is to come into a state.
IN_STATE: dict[str, dict[str, Any]] = {
    "pending": {},
    "scheduled": {"process_in": "1h"},
    "retry": {"max_retry": 5},
    "aggregating": {"group": "g"},
}


def ttls(server: Server, queue: str = "default") -> dict[str, int]:
    """Return the TTL in seconds of each task key of a queue by its ID, -1 without one."""
    prefix = f"asynq:{{{queue}}}:t:"
    with server.client() as client:
        return {key.decode().removeprefix(prefix): client.ttl(key) for key in client.scan_iter(f"{prefix}*")}


def states(server: Server, queue: str = "default") -> dict[str, str]:
    """Return the state of each task of a queue by its ID."""
    prefix = f"asynq:{{{queue}}}:t:"
    with server.client() as client:
        found = {key: client.hget(key, "state") for key in client.scan_iter(f"{prefix}*")}
        # A key that has gone between the two has no state.
        return {key.decode().removeprefix(prefix): state.decode() for key, state in found.items() if client.exists(key)}


def within(ttl: int, retention: int, grace: int = 30) -> bool:
    """Say whether a TTL is in [retention, retention + grace]."""
    return retention <= ttl <= retention + grace


def task(identity: str, kind: str = "job:x", do: str = "ok", **options: Any) -> dict[str, Any]:
    """Describe a task for the harness."""
    return {"id": identity, "type": kind, "payload": f'{{"do": "{do}"}}', **options}


def test_a_completed_task_gets_the_ttl_and_the_expiry_of_its_rule(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """The key lives retention + grace, and the index entry is due at the retention the rule gives."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(sidecar.address, task("a", retention="10m"), task("b", retention="10m", unique="1h"))
    harness.work(sidecar.address)
    assert states(server) == {"a": "completed", "b": "completed"}
    assert all(within(ttl, 7200) for ttl in ttls(server).values())
    with server.client() as client:
        now = client.time()[0]
        entries = client.zrange("asynq:{default}:completed", 0, -1, withscores=True)
    assert len(entries) == 2
    assert all(abs(score - now - 7200) < 10 for _, score in entries)


def test_a_failed_task_gets_the_ttl_of_its_rule(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Archived by SkipRetry or by its last retry, a task gets a TTL; while it waits for a retry it has none."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(
        sidecar.address,
        task("skipped", do="skip"),
        task("used-up", do="fail", max_retry=0),
        task("retrying", do="fail", max_retry=5),
        task("later", process_in="1h"),
    )
    worker = harness.serve(sidecar.address, "-retry-delay", "1h", "-task-check-interval", "20ms")
    _wait_for(server, {"skipped": "archived", "used-up": "archived", "retrying": "retry", "later": "scheduled"})
    worker.stop()
    found = ttls(server)
    assert within(found["skipped"], 3600)
    assert within(found["used-up"], 3600)
    assert found["retrying"] == found["later"] == -1


def test_delete_leaves_neither_hash_nor_index_entry_nor_lock(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """A rule that says delete makes the task vanish in the same step, and its uniqueness lock with it."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(
        sidecar.address,
        task("gone", "ping:a", "skip", unique="1h"),
        task("gone-too", "ping:b", retention="1h"),
        task("stays", do="skip"),
    )
    harness.work(sidecar.address)
    assert states(server) == {"stays": "archived"}
    with server.client() as client:
        assert client.zrange("asynq:{default}:archived", 0, -1) == [b"stays"]
        assert client.zcard("asynq:{default}:completed") == 0
        assert client.keys("asynq:{default}:unique:*") == []


def test_forever_leaves_no_ttl(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """A rule that says forever gives no TTL, and the completed entry is never due."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(sidecar.address, task("dead", "payment:a", "skip"), task("done", "payment:b", retention="1s"))
    harness.work(sidecar.address)
    assert ttls(server) == {"dead": -1, "done": -1}
    with server.client() as client:
        assert client.zscore("asynq:{default}:completed", "done") > client.time()[0] + 100 * 365 * DAY
    listed = harness.inspect(sidecar.address, {"op": "list", "queue": "default", "state": "completed"})[0]
    assert [entry["id"] for entry in listed] == ["done"]


def test_keep_uses_asynqs_own_times(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """With keep, a completed task lives for its Retention and an archived one for 90 days."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(sidecar.address, task("dead", do="skip", queue="own"), task("done", retention="45m", queue="own"))
    harness.work(sidecar.address, "-queues", "own=1")
    found = ttls(server, "own")
    assert within(found["dead"], 90 * DAY)
    assert within(found["done"], 45 * 60)


def test_a_task_that_is_run_again_loses_its_ttl(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Run one, run all, and the next life of the task: no live task carries a TTL."""
    sidecar = start_sidecar(server.url, POLICY)
    names = ["one", "two", "three"]
    harness.enqueue(sidecar.address, *(task(name, do="skip") for name in names), task("done", retention="1h"))
    harness.work(sidecar.address)
    assert all(ttl > 0 for ttl in ttls(server).values())
    harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "one"})
    harness.inspect(sidecar.address, {"op": "run_task", "queue": "default", "id": "done"})
    assert {name for name, ttl in ttls(server).items() if ttl == -1} == {"one", "done"}
    harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
    assert ttls(server) == dict.fromkeys([*names, "done"], -1)
    assert set(states(server).values()) == {"pending"}
    harness.work(sidecar.address)
    assert all(within(ttls(server)[name], 3600) for name in names)


@pytest.mark.parametrize("source", ["pending", "scheduled", "retry", "aggregating"])
def test_bulk_archiving_picks_the_rule_by_type(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, source: str
) -> None:
    """Archiving everything of a state by hand gives each task the TTL of its own rule."""
    sidecar = start_sidecar(server.url, POLICY)
    more = IN_STATE[source]
    do = "fail" if source == "retry" else "ok"
    harness.enqueue(
        sidecar.address,
        task("timed", do=do, **more),
        task("kept", "payment:x", do, **more),
        task("dropped", "ping:x", do, **more),
    )
    if source == "retry":
        worker = harness.serve(sidecar.address, "-retry-delay", "1h", "-task-check-interval", "20ms")
        _wait_for(server, dict.fromkeys(["timed", "kept", "dropped"], "retry"))
        worker.stop()
    operation = {"op": "archive_all", "queue": "default", "state": source, "group": "g"}
    assert harness.inspect(sidecar.address, operation) == [3]
    found = ttls(server)
    assert found.keys() == {"timed", "kept"}
    assert within(found["timed"], 3600)
    assert found["kept"] == -1
    with server.client() as client:
        assert sorted(client.zrange("asynq:{default}:archived", 0, -1)) == [b"kept", b"timed"]


@pytest.mark.parametrize("source", ["pending", "scheduled", "aggregating"])
def test_archiving_one_by_hand_gives_it_its_ttl(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, source: str
) -> None:
    """ArchiveTask attaches the TTL of the task's rule whatever state it comes from."""
    sidecar = start_sidecar(server.url, POLICY)
    harness.enqueue(sidecar.address, task("a", **IN_STATE[source]))
    harness.inspect(sidecar.address, {"op": "archive_task", "queue": "default", "id": "a"})
    assert states(server) == {"a": "archived"}
    assert within(ttls(server)["a"], 3600)


def test_the_janitor_still_deletes_what_is_due(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Asynq's own janitor goes on working through the sidecar."""
    sidecar = start_sidecar(server.url, POLICY.replace("{ttl: 2h}", "{ttl: 1s}"))
    harness.enqueue(sidecar.address, task("a", retention="1h"))
    worker = harness.serve(sidecar.address, "-janitor-interval", "200ms", "-task-check-interval", "20ms")
    _wait_for(server, {})
    worker.stop()
    with server.client() as client:
        assert client.zcard("asynq:{default}:completed") == 0


def test_tasks_that_no_rule_matches_are_left_alone(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """Without a matching rule nothing gets a TTL: not in another queue, nor beside a rule for another type."""
    policy = """
version: 1
rules:
  - {name: noise, match: {type: "ping:*", queue: [default, other]}, archived: {ttl: 1h}, completed: {ttl: 1h}}
"""
    sidecar = start_sidecar(server.url, policy)
    for queue in ("default", "elsewhere"):
        harness.enqueue(
            sidecar.address,
            task("dead", do="skip", queue=queue),
            task("done", retention="1h", queue=queue),
            task("ping", "ping:x", "skip", queue=queue),
        )
    harness.work(sidecar.address, "-queues", "default=1,elsewhere=1")
    assert ttls(server, "elsewhere") == {"dead": -1, "done": -1, "ping": -1}
    assert {name for name, ttl in ttls(server).items() if ttl > 0} == {"ping"}


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_shadow_and_off_change_nothing(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, mode: str
) -> None:
    """In shadow mode and off, tasks move as they would without the sidecar."""
    sidecar = start_sidecar(server.url, POLICY.replace("version: 1", f"version: 1\nmode: {mode}"))
    harness.enqueue(sidecar.address, task("dead", do="skip"), task("gone", "ping:a", "skip"))
    harness.enqueue(sidecar.address, task("done", retention="1h"))
    harness.work(sidecar.address)
    assert ttls(server) == {"dead": -1, "gone": -1, "done": -1}


def test_a_reload_changes_what_happens_next(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """A saved policy file is in force for the next command of connections that are open."""
    sidecar = start_sidecar(server.url, POLICY.replace("version: 1", "version: 1\nmode: off"))
    worker = harness.serve(sidecar.address, "-task-check-interval", "20ms")
    harness.enqueue(sidecar.address, task("before", do="skip"))
    _wait_for(server, {"before": "archived"})
    sidecar.reload(POLICY)
    harness.enqueue(sidecar.address, task("after", do="skip"))
    _wait_for(server, {"before": "archived", "after": "archived"})
    worker.stop()
    found = ttls(server)
    assert found["before"] == -1
    assert within(found["after"], 3600)


def test_part_of_a_rollout_is_enforced(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """With a rollout of 50 % about half of the tasks get a TTL: the same ones by hand and by the worker."""
    sidecar = start_sidecar(server.url, POLICY.replace("version: 1", "version: 1\nrollout: 50%"))
    names = [f"task-{number}" for number in range(200)]
    harness.enqueue(sidecar.address, *(task(name, do="skip") for name in names))
    harness.work(sidecar.address)
    by_worker = {name for name, ttl in ttls(server).items() if ttl > 0}
    assert 60 < len(by_worker) < 140
    harness.inspect(sidecar.address, {"op": "run_all", "queue": "default", "state": "archived"})
    assert set(ttls(server).values()) == {-1}
    harness.inspect(sidecar.address, {"op": "archive_all", "queue": "default", "state": "pending"})
    assert {name for name, ttl in ttls(server).items() if ttl > 0} == by_worker


def _wait_for(server: Server, expected: dict[str, str]) -> None:
    wait_until(lambda: states(server) == expected, f"the tasks do not come to {expected}")
