"""Programs that go past the sidecar beside those behind it: what still holds.

Each row of the tables in docs/mixed-fleets.md is a test here.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from asynq_ttl.sweep.schedule import PAGE_SIZE
from support.asynq import Harness, Json
from support.paths import DOCS
from support.servers import Server, wait_until
from trials.model.sidecar_thread import SidecarThread

POLICY = """
version: 1
grace: 30s
rules:
  - {name: precious, match: {type: "precious:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}
"""
HOUR = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
QUEUE = "asynq:{default}:"
DAY = 86_400
LISTS = ("pending", "active")
SETS = ("scheduled", "retry", "archived", "completed", "lease")
UNTIMED, GONE = -1, -2


class Fleet:
    """One Redis, a sidecar, and Asynq programs on both sides of it."""

    def __init__(self, server: Server, client: "Redis", harness: Harness, sidecar: SidecarThread) -> None:
        self.client = client
        self.harness = harness
        self.sidecar = sidecar
        self.past = f"127.0.0.1:{server.port}"
        self.behind = f"127.0.0.1:{sidecar.port}"

    def enqueue(self, address: str, name: str, do: str = "ok", **options: Any) -> Json:
        """Enqueue a task and return the answer."""
        task = {"id": name, "type": "x", "payload": f'{{"do": "{do}"}}', **options}
        return self.harness.enqueue(address, task)[0]

    def settle(self, address: str, name: str, do: str = "ok", **options: Any) -> None:
        """Have one task completed (`ok`) or archived (`skip`) by a worker."""
        assert "id" in self.enqueue(address, name, do, retention="1h", **options)
        self.harness.work(address)
        assert self.state(name) == ("completed" if do == "ok" else "archived")

    def inspect(self, address: str, op: str, **fields: Any) -> Any:
        """Do one operation of the Inspector."""
        return self.harness.inspect(address, {"op": op, "queue": "default", **fields})[0]

    def work(self, address: str, until: Callable[[], object], *options: str) -> None:
        """Run a worker until a condition holds, then kill it: what it is at may take long."""
        worker = self.harness.serve(address, "-task-check-interval", "20ms", *options)
        wait_until(until, "the worker does not get there")
        worker.kill()

    def time_is_over(self, name: str) -> None:
        """Let a task's own TTL fire."""
        assert self.client.pexpire(f"{QUEUE}t:{name}", 1)
        wait_until(lambda: not self.client.exists(f"{QUEUE}t:{name}"), "the task does not go")

    def is_due(self, name: str) -> None:
        """Let no more than a part of the grace be left of a task's time."""
        assert self.client.expire(f"{QUEUE}t:{name}", 20)

    def age(self, index: str, name: str, seconds: float) -> None:
        """Let an index entry be older than it is."""
        self.client.zadd(QUEUE + index, {name: time.time() - seconds}, xx=True)

    def state(self, name: str) -> str:
        """Return a task's state; empty where it has no hash."""
        state: Any = self.client.hget(f"{QUEUE}t:{name}", "state")
        return (state or b"").decode()

    def ttl(self, name: str) -> int:
        """Return a task's TTL in seconds; UNTIMED or GONE."""
        return int(self.client.ttl(f"{QUEUE}t:{name}"))

    def places(self, name: str) -> set[str]:
        """Return the lists and indexes that a task ID is in."""
        lists = {place for place in LISTS if name.encode() in self.client.lrange(QUEUE + place, 0, -1)}
        return lists | {place for place in SETS if self.client.zscore(QUEUE + place, name) is not None}


@pytest.fixture
def fleet(server: Server, harness: Harness) -> Iterator[Fleet]:
    """A fleet on each kind of server; the sidecar sweeps when a test says so."""
    with server.client() as client, SidecarThread(server) as sidecar:
        sidecar.start(POLICY)
        yield Fleet(server, client, harness, sidecar)
        assert sidecar.fail_opens() == {}


# --- enqueue, dequeue, complete, archive -------------------------------------------------------------------


def test_a_task_enqueued_past_the_sidecar_gets_its_ttl(fleet: Fleet) -> None:
    """Who enqueued does not matter: the TTL comes with the worker that settles."""
    fleet.enqueue(fleet.past, "done", retention="1h")
    fleet.enqueue(fleet.past, "dead", "skip", unique="1h")
    fleet.harness.work(fleet.behind)
    assert 7200 <= fleet.ttl("done") <= 7230
    assert 3600 <= fleet.ttl("dead") <= 3630


def test_a_task_enqueued_past_the_sidecar_after_a_sweep_meets_no_ghost(fleet: Fleet) -> None:
    """What is due goes with its index entry before its TTL fires, so an ID comes back to a clean place."""
    fleet.settle(fleet.behind, "again")
    fleet.is_due("again")
    fleet.sidecar.sweep()
    assert fleet.places("again") == set()
    fleet.settle(fleet.past, "again")
    assert fleet.places("again") == {"completed"}


def test_a_task_taken_and_ended_past_the_sidecar_gets_its_ttl_from_the_sweeper(fleet: Fleet) -> None:
    """Until its next round there is none, as without a sidecar; then it counts from when the task ended."""
    fleet.enqueue(fleet.behind, "done", retention="1h")
    fleet.enqueue(fleet.behind, "dead", "skip")
    fleet.harness.work(fleet.past)
    assert (fleet.state("done"), fleet.state("dead")) == ("completed", "archived")
    assert fleet.ttl("done") == fleet.ttl("dead") == UNTIMED
    fleet.sidecar.sweep()
    assert 7190 <= fleet.ttl("done") <= 7230
    assert 3590 <= fleet.ttl("dead") <= 3630


def test_a_task_completed_past_the_sidecar_lives_as_long_as_the_policy_says(fleet: Fleet) -> None:
    """From the sweeper's next round on any janitor goes by it too. `forever` is left to the janitor, as before."""
    fleet.settle(fleet.past, "done")
    fleet.settle(fleet.past, "precious", type="precious:x")
    fleet.sidecar.sweep()
    assert (fleet.ttl("done") > 7000, fleet.ttl("precious")) == (True, UNTIMED)
    for name, seconds in (("done", 7200), ("precious", 3600)):
        score = fleet.client.zscore(f"{QUEUE}completed", name)
        assert score is not None
        assert seconds - 100 < score - time.time() <= seconds + 1
        fleet.age("completed", name, 1)
    fleet.work(fleet.past, lambda: not fleet.places("done"), "-janitor-interval", "100ms")
    assert fleet.ttl("done") == fleet.ttl("precious") == GONE


def test_a_task_that_ended_past_the_sidecar_before_it_began_stays_until_the_archive_is_trimmed(fleet: Fleet) -> None:
    """With `adopt: all` the sweeper takes it too. The next task archived behind the sidecar trims it by its age."""
    fleet.settle(fleet.past, "dead", "skip")
    fleet.settle(fleet.past, "too", "skip")
    fleet.age("archived", "dead", 2 * 3600)
    fleet.age("archived", "too", 1800)
    fleet.sidecar.reload(HOUR)
    fleet.sidecar.sweep()
    assert fleet.ttl("dead") == fleet.ttl("too") == UNTIMED
    fleet.settle(fleet.behind, "next", "skip")
    assert (fleet.ttl("dead"), fleet.places("dead")) == (GONE, set())
    fleet.sidecar.reload("adopt: all\n" + HOUR)
    fleet.sidecar.sweep()
    assert 1700 < fleet.ttl("too") <= 1860


def test_a_worker_past_the_sidecar_trims_the_archive_by_asynq_s_own_limits(fleet: Fleet) -> None:
    """What the policy keeps for longer than 90 days goes when a worker past the sidecar archives anything there."""
    fleet.settle(fleet.behind, "precious", "skip", type="precious:x")
    fleet.age("archived", "precious", 91 * DAY)
    fleet.settle(fleet.behind, "other", "skip")
    assert fleet.state("precious") == "archived"
    fleet.settle(fleet.past, "another", "skip")
    assert (fleet.ttl("precious"), fleet.places("precious")) == (GONE, set())


# --- running again -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("bulk", [False, True], ids=["one", "all"])
def test_a_task_run_past_the_sidecar_loses_its_ttl_when_a_worker_behind_takes_it(fleet: Fleet, bulk: bool) -> None:
    """RunTask and RunAllArchivedTasks by a UI leave the TTL on; it comes off with the dequeue."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet, bulk=bulk)
    assert fleet.state("dead") == "pending"
    assert fleet.ttl("dead") > 3000
    fleet.client.hset(f"{QUEUE}t:dead", "msg", sleeping(fleet))
    fleet.work(fleet.behind, lambda: fleet.state("dead") == "active")
    assert fleet.ttl("dead") == UNTIMED


@pytest.mark.parametrize("bulk", [False, True], ids=["one", "all"])
def test_a_task_run_and_taken_past_the_sidecar_loses_its_ttl_to_the_sweeper(fleet: Fleet, bulk: bool) -> None:
    """With UI and worker past the sidecar the TTL stays on the running task until the next round of the sweeper."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet, bulk=bulk)
    fleet.client.hset(f"{QUEUE}t:dead", "msg", sleeping(fleet))
    worker = fleet.harness.serve(fleet.past, "-task-check-interval", "20ms")
    wait_until(lambda: fleet.state("dead") == "active", "the task does not start")
    assert fleet.ttl("dead") > 3000
    fleet.sidecar.sweep()
    assert fleet.ttl("dead") == UNTIMED
    worker.kill()


@pytest.mark.parametrize("bulk", [False, True], ids=["one", "all"])
def test_a_task_run_past_the_sidecar_that_waits_loses_its_ttl_to_the_sweeper(fleet: Fleet, bulk: bool) -> None:
    """While nobody takes it, the sweeper takes the TTL off."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet, bulk=bulk)
    fleet.sidecar.sweep()
    assert (fleet.ttl("dead"), fleet.places("dead")) == (UNTIMED, {"pending"})


def test_a_task_run_past_the_sidecar_into_a_long_queue_loses_its_ttl_in_some_rounds(fleet: Fleet) -> None:
    """Each round makes some way through the tasks that wait; none is passed over."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet)
    others = [f"other-{number}" for number in range(2 * PAGE_SIZE)]
    for name in others:
        fleet.client.hset(f"{QUEUE}t:{name}", mapping={"msg": "m", "state": "pending"})
    fleet.client.lpush(f"{QUEUE}pending", *others)
    for _ in range(3):  # pages; the one with `retry`, which is empty, costs next to nothing
        fleet.sidecar.sweep()
    assert fleet.ttl("dead") == UNTIMED


def test_a_task_run_past_the_sidecar_vanishes_if_nobody_comes_round_within_its_ttl(fleet: Fleet) -> None:
    """This window remains, where no sidecar sweeps or a queue is too long. A worker behind a sidecar drops the ID."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet)
    fleet.time_is_over("dead")
    assert fleet.places("dead") == {"pending"}
    fleet.work(fleet.behind, lambda: not fleet.places("dead"))
    assert fleet.ttl("dead") == GONE


def test_what_a_worker_past_the_sidecar_makes_of_a_vanished_task_is_swept(fleet: Fleet) -> None:
    """Taken past the sidecar, the ID of a vanished task is active for ever; the next round of the sweeper drops it."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet)
    fleet.time_is_over("dead")
    fleet.work(fleet.past, lambda: "active" in fleet.places("dead"))
    assert fleet.places("dead") == {"active", "lease"}
    fleet.sidecar.sweep()
    assert (fleet.ttl("dead"), fleet.places("dead")) == (GONE, set())


def test_a_task_run_and_failed_past_the_sidecar_loses_its_ttl_while_it_waits_for_its_retry(fleet: Fleet) -> None:
    """In `retry` the TTL of an earlier life stays, until the sweeper comes round."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet)
    fleet.client.hset(f"{QUEUE}t:dead", "msg", sleeping(fleet, '{"do": "fail"}'))
    fleet.work(fleet.past, lambda: fleet.state("dead") == "retry", "-retry-delay", "1h")
    assert fleet.ttl("dead") > 3000
    fleet.sidecar.sweep()
    assert (fleet.ttl("dead"), fleet.places("dead")) == (UNTIMED, {"retry"})


def test_a_task_run_and_settled_past_the_sidecar_ends_by_its_old_ttl(fleet: Fleet) -> None:
    """It goes at the end of the time that its first end gave it, with its entry: early, but without a ghost."""
    fleet.settle(fleet.behind, "dead", "skip")
    run_past(fleet)
    fleet.harness.work(fleet.past)
    assert fleet.state("dead") == "archived"
    assert 3000 < fleet.ttl("dead") <= 3630
    fleet.is_due("dead")
    fleet.sidecar.sweep()
    assert (fleet.ttl("dead"), fleet.places("dead")) == (GONE, set())


# --- deleting, the janitor, archiving by hand --------------------------------------------------------------


@pytest.mark.parametrize("bulk", [False, True], ids=["one", "all"])
def test_a_task_deleted_past_the_sidecar_is_gone_whole(fleet: Fleet, bulk: bool) -> None:
    """Hash, entry and uniqueness lock go, whether the task has a TTL or not."""
    fleet.settle(fleet.behind, "dead", "skip", unique="1h")
    if bulk:
        fleet.inspect(fleet.past, "delete_all", state="archived")
    else:
        fleet.inspect(fleet.past, "delete_task", id="dead")
    assert (fleet.ttl("dead"), fleet.places("dead")) == (GONE, set())
    assert fleet.client.keys(f"{QUEUE}unique:*") == []


@pytest.mark.parametrize("force", [False, True], ids=["empty", "force"])
def test_a_queue_deleted_past_the_sidecar_leaves_nothing_that_stays(fleet: Fleet, force: bool) -> None:
    """Asynq forgets a queue's completed tasks. Their TTLs fire, and if the queue comes back, the entries are swept."""
    fleet.settle(fleet.behind, "done")
    if force:
        fleet.settle(fleet.behind, "dead", "skip")
    fleet.inspect(fleet.past, "delete_queue", force=force)
    assert (fleet.places("done"), fleet.places("dead")) == ({"completed"}, set())
    assert fleet.ttl("done") > 7000
    fleet.time_is_over("done")
    fleet.enqueue(fleet.past, "new", process_in="1h")
    fleet.sidecar.sweep()
    assert fleet.places("done") == set()


def test_a_janitor_past_the_sidecar_goes_by_the_policy_s_times(fleet: Fleet) -> None:
    """The due time is in the index: what the policy keeps longer stays, and what is due goes with its entry."""
    fleet.settle(fleet.behind, "precious", type="precious:x")
    fleet.settle(fleet.behind, "done")
    score = fleet.client.zscore(f"{QUEUE}completed", "done")
    assert score is not None
    assert 7100 < score - time.time() <= 7201
    fleet.age("completed", "done", 1)
    fleet.work(fleet.past, lambda: not fleet.places("done"), "-janitor-interval", "100ms")
    assert fleet.ttl("done") == GONE
    assert (fleet.ttl("precious"), fleet.places("precious")) == (UNTIMED, {"completed"})


def test_a_task_archived_by_hand_past_the_sidecar_gets_its_ttl_from_the_sweeper(fleet: Fleet) -> None:
    """One by one and all of a state; with `adopt: off` it gets none."""
    fleet.enqueue(fleet.behind, "waiting", process_in="1h")
    fleet.inspect(fleet.past, "archive_task", id="waiting")
    fleet.enqueue(fleet.behind, "too", process_in="1h")
    assert fleet.inspect(fleet.past, "archive_all", state="scheduled") == 1
    fleet.sidecar.reload(POLICY + "adopt: off\n")
    fleet.sidecar.sweep()
    assert fleet.ttl("waiting") == fleet.ttl("too") == UNTIMED
    fleet.sidecar.reload(POLICY)
    fleet.sidecar.sweep()
    assert (fleet.ttl("waiting") > 3590, fleet.places("waiting")) == (True, {"archived"})
    assert (fleet.ttl("too") > 3590, fleet.places("too")) == (True, {"archived"})


def test_a_completed_task_archived_by_hand_past_the_sidecar_keeps_the_ttl_of_its_completion(fleet: Fleet) -> None:
    """It goes when it would have gone as a completed task, with its entry."""
    fleet.settle(fleet.behind, "done")
    fleet.inspect(fleet.past, "archive_task", id="done")
    assert 7000 < fleet.ttl("done") <= 7230
    fleet.is_due("done")
    fleet.sidecar.sweep()
    assert (fleet.ttl("done"), fleet.places("done")) == (GONE, set())


def test_what_archiving_by_hand_past_the_sidecar_orphans_goes_by_its_ttl(fleet: Fleet) -> None:
    """Asynq's inspector trims entries without their hashes: one with a TTL goes in time, one kept for ever stays."""
    fleet.settle(fleet.behind, "dead", "skip")
    fleet.settle(fleet.behind, "precious", "skip", type="precious:x")
    fleet.age("archived", "dead", 91 * DAY)
    fleet.age("archived", "precious", 91 * DAY)
    fleet.enqueue(fleet.behind, "waiting", process_in="1h")
    fleet.inspect(fleet.past, "archive_task", id="waiting")
    assert fleet.places("dead") == fleet.places("precious") == set()
    assert 3500 < fleet.ttl("dead") <= 3630
    assert fleet.ttl("precious") == UNTIMED


def test_what_is_archived_past_the_sidecar_without_a_hash_is_swept(fleet: Fleet) -> None:
    """Archiving an ID whose hash is gone makes a hash without a message, which breaks listings until it is swept."""
    fleet.client.zadd(f"{QUEUE}scheduled", {"ghost": time.time() + 3600})
    fleet.client.sadd("asynq:queues", "default")
    assert fleet.inspect(fleet.past, "archive_all", state="scheduled") == 1
    assert (fleet.state("ghost"), fleet.places("ghost")) == ("archived", {"archived"})
    fleet.sidecar.sweep()
    assert (fleet.ttl("ghost"), fleet.places("ghost")) == (GONE, set())


@pytest.mark.parametrize("op", ["run_all", "delete_all", "archive", "janitor", "complete"])
def test_a_ghost_is_a_danger_past_the_sidecar_only_until_it_is_swept(fleet: Fleet, op: str) -> None:
    """If a TTL fires unswept, a program past the sidecar would do to the ghost what Asynq does. One round ends that."""
    state = "completed" if op in {"janitor", "complete"} else "archived"
    fleet.settle(fleet.behind, "again", "ok" if state == "completed" else "skip")
    fleet.time_is_over("again")
    fleet.sidecar.sweep()
    fleet.enqueue(fleet.past, "again", **({} if op == "complete" else {"process_in": "1h"}), retention="1h")
    fleet.age(state, "again", 91 * DAY)
    if op == "archive":
        fleet.enqueue(fleet.past, "other", "skip")
        fleet.work(fleet.past, lambda: fleet.state("other") == "archived")
    elif op == "complete":
        fleet.harness.work(fleet.past)
    elif op == "janitor":
        fleet.enqueue(fleet.past, "due", retention="1s")
        fleet.work(fleet.past, lambda: fleet.state("due") == "completed")
        fleet.age("completed", "due", 1)
        fleet.work(fleet.past, lambda: not fleet.state("due"), "-janitor-interval", "100ms")
    else:
        assert fleet.inspect(fleet.past, op, state=state) == 0
    assert fleet.state("again") == ("completed" if op == "complete" else "scheduled")
    assert fleet.places("again") == {fleet.state("again")}


def test_the_page_has_a_row_for_each_of_these() -> None:
    """docs/mixed-fleets.md names every test of this file as the witness of something, and no other."""
    page = (DOCS / "mixed-fleets.md").read_text()
    here = {name for name in globals() if name.startswith("test_") and "page_has_a_row" not in name}
    assert set(re.findall(r"`(test_\w+)`", page)) == here


def run_past(fleet: Fleet, *, bulk: bool = False) -> None:
    """Have a UI past the sidecar run the archived task `dead` again."""
    if bulk:
        assert fleet.inspect(fleet.past, "run_all", state="archived") == 1
    else:
        fleet.inspect(fleet.past, "run_task", id="dead")


def sleeping(fleet: Fleet, payload: str = '{"do": "sleep", "ms": 60000}') -> bytes:
    """Return the message of the task `dead` with another payload: to run for long, unless it says otherwise."""
    task = {"id": "copy", "type": "x", "payload": payload, "process_in": "1h", "retention": "1h"}
    fleet.harness.enqueue(fleet.past, task)
    message: Any = fleet.client.hget(f"{QUEUE}t:copy", "msg")
    fleet.inspect(fleet.past, "delete_task", id="copy")
    return bytes(message).replace(b"copy", b"dead")
