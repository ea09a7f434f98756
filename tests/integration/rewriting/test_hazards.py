"""Why a bare EXPIRE loses tasks, and that the sidecar does not: each hazard in five ways and more.

The control (`plain`) is Asynq on Redis alone with a TTL set by hand, and asserts that the damage is done: a hazard
that Asynq no longer has would fail it. Behind the sidecar, on both servers, the same story must end well: with the
sweeper at work (`redis`, `valkey`), and where TTLs fired while no sidecar ran and the next one has not swept yet
(`redis-late`, `valkey-late`). Where an ID lives again, it also does so while its earlier life is there, which a rule
lets it replace (`redis-replace`, `valkey-replace`).

Where tasks complete, they do so by a Retention, and behind the sidecar also without one, kept by a `done` rule: what
that leaves has to be as harmless.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from redis import Redis, ResponseError

from support.asynq import Harness, Json
from support.asynq_calls import AsynqCalls
from support.asynq_source import scripts
from support.prepared import launch
from support.servers import Server, Sidecar, SidecarFactory, start_redis, start_valkey, wait_until
from support.task_message import encode_task

POLICY = """
version: 1
grace: 30s
rules:
  - {name: kept, match: {type: "kept:*"}, done: {ttl: 1h}}
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 1h}}
"""
REPLACING = POLICY.replace("ttl: 1h", "ttl: 1h, on_conflict: replace")
SWEPT = {"sweep_interval": "0.2"}
UNSWEPT = {"sweep_interval": "0"}
QUEUE = "asynq:{default}:"
DAY = 86_400
# How a task comes to be completed for an hour.
RETAINED = {"type": "x", "retention": "1h"}
KEPT = {"type": "kept:x"}
LISTS = ("pending", "active")
SETS = ("scheduled", "retry", "archived", "completed", "lease")

T = TypeVar("T")


@dataclass
class Way:
    """One way to live through a hazard.

    Attributes:
        server: the Redis or Valkey.
        client: a connection to it, past any sidecar.
        harness: real Asynq.
        sidecar: what Asynq talks to; None if that is the server itself.
        late: TTLs fire while no sidecar runs, and the next one does not sweep.
        replace: an ID that lives again replaces its earlier life, instead of following it.
    """

    server: Server
    client: "Redis"
    harness: Harness
    sidecar: Sidecar | None
    late: bool
    replace: bool

    @property
    def address(self) -> str:
        """Where Asynq connects."""
        return self.sidecar.address if self.sidecar else f"127.0.0.1:{self.server.port}"

    def either(self, *, plain: T, sidecar: T) -> T:
        """Return what the story comes to: with Redis alone, or behind the sidecar."""
        return sidecar if self.sidecar else plain

    def fail(self, *names: str, **options: Any) -> None:
        """Have tasks archived by a worker, and give them a TTL by hand where no sidecar does."""
        self._settle(*({"id": name, "type": "x", "payload": '{"do": "skip"}', **options} for name in names))

    def complete(self, *names: str, how: Json = RETAINED) -> None:
        """Have tasks completed by a worker, and give them a TTL by hand where no sidecar does."""
        self._settle(*({"id": name, **how} for name in names))

    def enqueue(self, name: str, **options: Any) -> Json:
        """Enqueue one task and return the answer."""
        return self.harness.enqueue(self.address, {"id": name, "type": "x", **options})[0]

    def live_again(self, name: str, **options: Any) -> None:
        """Enqueue a task with the ID of one that has ended: when that is gone, or in its place."""
        if not self.replace:
            self.expire(name)
        assert self.enqueue(name, **options).get("id") == name

    def inspect(self, op: str, **fields: Any) -> Any:
        """Do one operation of the Inspector."""
        return self.harness.inspect(self.address, {"op": op, "queue": "default", **fields})[0]

    def work(self, until: Callable[[], object], *options: str) -> None:
        """Run a worker until a condition holds: with a stuck task its queue would never be idle."""
        worker = self.harness.serve(self.address, "-task-check-interval", "20ms", *options)
        wait_until(until, "the worker does not get there")
        worker.stop()

    def outage(self) -> None:
        """Kill the sidecar and start another, where the way is to be without one for a time."""
        if self.sidecar and self.late:
            self.sidecar.kill()
            self.sidecar.start()

    def expire(self, *names: str) -> None:
        """Let the time of terminal tasks be over: by deadlines that are moved, not by waiting."""
        if self.sidecar and self.late:
            self.sidecar.kill()
        for name in names:
            # Behind a sidecar that sweeps, what has no more than the grace left is due.
            assert self.client.pexpire(self.key(name), 4000 if self.sidecar and not self.late else 1)
        wait_until(lambda: not self.client.exists(*map(self.key, names)), "the tasks do not go")
        if self.sidecar and self.late:
            self.sidecar.start()

    def time_passes(self) -> None:
        """Let every TTL on a task fire."""
        keys = [key for key in self.client.keys(f"{QUEUE}t:*") if self.client.ttl(key) != -1]
        for key in keys:
            self.client.pexpire(key, 1)
        wait_until(lambda: not keys or not self.client.exists(*keys), "the tasks do not go")

    def score(self, index: str, name: str, score: float) -> None:
        """Move the score of an index entry, if there is one."""
        self.client.zadd(QUEUE + index, {name: score}, xx=True)

    def state(self, name: str) -> str:
        """Return a task's state; empty where it has no hash, and with a word if it has no message."""
        found: Any = self.client.hmget(self.key(name), "state", "msg")
        state, message = found
        return (state or b"").decode() + ("" if message or not state else ", no message")

    def places(self, name: str) -> set[str]:
        """Return the lists and indexes that a task ID is in."""
        lists = {name_ for name_ in LISTS if name.encode() in self.client.lrange(QUEUE + name_, 0, -1)}
        return lists | {index for index in SETS if self.client.zscore(QUEUE + index, name) is not None}

    def members(self, index: str) -> list[str]:
        """Return the IDs in an index, in order."""
        found: Any = self.client.zrange(QUEUE + index, 0, -1)
        return [name.decode() for name in found]

    def hashes(self) -> set[str]:
        """Return the IDs that have a task key."""
        keys = self.client.scan_iter(f"{QUEUE}t:*", count=5000)
        return {key.decode().removeprefix(f"{QUEUE}t:") for key in keys}

    @staticmethod
    def key(name: str) -> str:
        """Return a task key."""
        return f"{QUEUE}t:{name}"

    def _settle(self, *tasks: Json) -> None:
        answers = self.harness.enqueue(self.address, *tasks)
        assert all("id" in answer for answer in answers), answers
        self.harness.work(self.address)
        for task in tasks:
            if not self.sidecar:
                self.client.expire(self.key(task["id"]), 3600)
            assert self.client.ttl(self.key(task["id"])) > 3000


class Places:
    """A server for each way, with the sidecar in front of it, started when the first test asks for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()
        self._started: dict[str, tuple[Server, Sidecar | None]] = {}

    def of(self, way: str) -> tuple[Server, Sidecar | None]:
        """Return the empty server of a way, and its sidecar if it has one."""
        if way not in self._started:
            name, late = way.partition("-")[0], way.endswith("-late")
            server = self._stack.enter_context(start_valkey() if name == "valkey" else start_redis())
            sidecar = None
            if name != "plain":
                start = self._stack.enter_context(SidecarFactory(self._folder / way, launch))
                policy = REPLACING if way.endswith("-replace") else POLICY
                sidecar = start(server.url, policy, **(UNSWEPT if late else SWEPT))
            self._started[way] = server, sidecar
        self._started[way][0].reset()
        return self._started[way]

    def close(self) -> None:
        """End them all; none may have warned of anything."""
        self._stack.close()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """The servers and sidecars of this module."""
    places = Places(tmp_path_factory.mktemp("places"))
    try:
        yield places
    finally:
        places.close()


@pytest.fixture
def way(request: pytest.FixtureRequest, places: Places, harness: Harness) -> Iterator[Way]:
    """The way that a test is parametrized with."""
    server, sidecar = places.of(request.param)
    with server.client() as client:
        late, replace = request.param.endswith("-late"), request.param.endswith("-replace")
        yield Way(server, client, harness, sidecar, late=late, replace=replace)
    if sidecar and sidecar.policy_file.read_text() not in (POLICY, REPLACING):
        sidecar.reload(POLICY)


swept = pytest.mark.parametrize("way", ["plain", "redis", "valkey"], indirect=True)
"""Three ways: for what the sweeper sees to, and for what has nothing to do with TTLs that fire."""
LATE = ["plain", "redis", "valkey", "redis-late", "valkey-late"]
also_late = pytest.mark.parametrize("way", LATE, indirect=True)
again = pytest.mark.parametrize("way", [*LATE, "redis-replace", "valkey-replace"], indirect=True)
"""All ways, for an ID that lives again."""
behind = pytest.mark.parametrize("way", ["redis-late", "valkey-late"], indirect=True)
again_kept = pytest.mark.parametrize(
    ("way", "how"),
    [(way, RETAINED) for way in (*LATE, "redis-replace")]
    + [(way, KEPT) for way in ("redis", "valkey-late", "valkey-replace")],
    ids=lambda value: value if isinstance(value, str) else "kept" if value is KEPT else "retained",
    indirect=["way"],
)
"""The same where the task completes by its Retention, and some where a rule keeps it."""


# --- the hazards of a bare EXPIRE -------------------------------------------------------------------------


@swept
def test_h1_an_expired_task_leaves_no_row_and_no_broken_dashboard(way: Way) -> None:
    """An archived task whose time is over is in no listing and no count, and the queue can be looked at."""
    way.fail("dead")
    way.expire("dead")
    look = {"op": "list", "queue": "default", "state": "archived"}
    rows, info = way.harness.try_inspect(way.address, look, {"op": "queue_info", "queue": "default"})
    found = [row["id"] for row in rows["result"]], info["ok"], way.client.zcard(f"{QUEUE}archived")
    assert found == way.either(plain=([""], False, 1), sidecar=([], True, 0))


@also_late
def test_h2_run_all_queues_no_expired_task(way: Way) -> None:
    """Running all archived tasks passes over one whose hash is gone, instead of leaving it active for ever."""
    way.fail("gone", "kept")
    way.expire("gone")
    ran = way.inspect("run_all", state="archived")
    way.work(lambda: way.state("kept") == "archived" and not way.client.exists(f"{QUEUE}pending"))
    found = ran, way.state("gone"), way.places("gone")
    assert found == way.either(plain=(2, "active, no message", {"active", "lease"}), sidecar=(1, "", set()))


@also_late
def test_h3_a_task_that_is_run_again_does_not_vanish(way: Way) -> None:
    """Run one or run all: the TTL of the task's earlier life does not fire in its new one."""
    way.fail("one", "two")
    way.outage()
    way.inspect("run_task", id="one")
    way.inspect("run_all", state="archived")
    assert way.state("one") == way.state("two") == "pending"
    way.time_passes()
    way.work(lambda: not way.client.exists(f"{QUEUE}pending") and way.state("one") and way.state("two"))
    found = [way.state("one"), way.state("two")]
    assert found == way.either(plain=["active, no message"] * 2, sidecar=["archived"] * 2)


@again_kept
def test_h4_an_id_that_completed_before_completes_again(way: Way, how: Json) -> None:
    """The index entry of the ID's earlier life does not make completing fail half-way."""
    way.complete("again", how=how)
    way.live_again("again", **how)
    way.harness.work(way.address)
    found = way.state("again"), way.places("again")
    assert found == way.either(plain=("active", {"completed"}), sidecar=("completed", {"completed"}))
    if way.sidecar:
        assert 3600 <= way.client.ttl(way.key("again")) <= 3630


@again_kept
def test_h5_the_janitor_deletes_no_live_task(way: Way, how: Json) -> None:
    """When the entry of an ID's earlier life is due, the janitor leaves its new life alone."""
    way.complete("reborn", "due", how=how)
    way.live_again("reborn", process_in="1h")
    way.score("completed", "reborn", 1)
    way.score("completed", "due", 2)
    way.work(lambda: not way.client.exists(f"{QUEUE}completed"), "-janitor-interval", "100ms")
    assert way.state("reborn") == way.either(plain="", sidecar="scheduled")
    assert way.state("due") == ""


@again
def test_h6_archiving_deletes_no_live_task(way: Way) -> None:
    """When the entry of an ID's earlier life is past the cutoff, archiving another task leaves its new life alone."""
    way.fail("reborn")
    way.live_again("reborn", process_in="1h")
    way.score("archived", "reborn", 1)
    way.enqueue("other", payload='{"do": "skip"}')
    way.work(lambda: way.state("other") == "archived")
    assert way.state("reborn") == way.either(plain="", sidecar="scheduled")
    assert way.places("other") == {"archived"}


@pytest.mark.parametrize("way", ["redis-replace", "valkey-replace"], indirect=True)
def test_a_task_that_replaces_another_does_not_vanish(way: Way) -> None:
    """H2 and H3: the TTL of the earlier life goes with it, and what runs all tasks meets the new one alone."""
    way.fail("one")
    way.live_again("one", process_in="1h")
    way.time_passes()
    assert (way.state("one"), way.places("one"), way.inspect("run_all", state="archived")) == (
        "scheduled",
        {"scheduled"},
        0,
    )


@behind
def test_a_task_that_is_kept_and_run_again_does_not_vanish(way: Way) -> None:
    """H3 without a Retention: its TTL does not fire in its new life, and when that ends well it is kept again."""
    way.complete("one", "two", how=KEPT)
    way.outage()
    way.inspect("run_task", id="one")
    way.inspect("run_task", id="two")
    assert way.state("one") == way.state("two") == "pending"
    way.time_passes()
    way.harness.work(way.address)
    assert [way.state("one"), way.state("two")] == ["completed"] * 2
    assert min(way.client.ttl(way.key(name)) for name in ("one", "two")) >= 3600


@again
@pytest.mark.parametrize("state", ["archived", "completed"])
def test_deleting_all_deletes_no_live_task(way: Way, state: str) -> None:
    """Deleting all tasks of a terminal state leaves an ID alone that lives again, and its uniqueness lock."""
    (way.fail if state == "archived" else way.complete)("reborn", "other")
    way.live_again("reborn", process_in="1h", unique="2h")
    way.inspect("delete_all", state=state)
    found = way.state("reborn"), len(way.client.keys(f"{QUEUE}unique:*")), way.places("reborn")
    assert found == way.either(plain=("", 0, {"scheduled"}), sidecar=("scheduled", 1, {"scheduled"}))
    assert way.state("other") == ""
    assert way.members(state) == []


@behind
def test_ghosts_of_a_time_without_a_sidecar_are_swept(way: Way, start_sidecar: SidecarFactory) -> None:
    """TTLs that fired while every sidecar was dead leave nothing behind once a sidecar sweeps."""
    way.fail("dead")
    way.complete("done")
    way.complete("kept", how=KEPT)
    way.expire("dead", "done", "kept")
    info = way.harness.try_inspect(way.address, {"op": "queue_info", "queue": "default"})[0]
    assert (info["ok"], way.members("archived"), way.members("completed")) == (False, ["dead"], ["done", "kept"])
    start_sidecar(way.server.url, POLICY, **SWEPT)
    wait_until(lambda: not way.members("archived") + way.members("completed"), "ghosts are not swept")
    assert way.inspect("queue_info")["archived"] == 0


# --- uniqueness locks -------------------------------------------------------------------------------------


@swept
def test_the_lock_of_an_expired_task_is_released(way: Way) -> None:
    """When an archived task's time is over, its uniqueness lock goes with it, not hours later."""
    way.fail("first", unique="12h")
    way.expire("first")
    again = way.enqueue("second", payload='{"do": "skip"}', unique="12h")
    assert again.get("kind", "enqueued") == way.either(plain="duplicate", sidecar="enqueued")


@behind
def test_a_lock_whose_task_expired_without_a_sidecar_stays_for_its_own_time(way: Way) -> None:
    """Nothing says any more which lock was whose, so it goes by its own TTL, and not before."""
    way.fail("first", unique="12h")
    way.expire("first")
    locks = way.client.keys(f"{QUEUE}unique:*")
    assert len(locks) == 1
    assert 12 * 3600 - 60 < way.client.ttl(locks[0]) <= 12 * 3600


# --- IDs without a task -----------------------------------------------------------------------------------


@swept
def test_an_active_id_whose_hash_is_gone_does_not_stay(way: Way) -> None:
    """A worker died, the task's hash is gone: the ID leaves `active` and the lease once the lease is over."""
    way.enqueue("gone", payload='{"do": "sleep", "ms": 60000}')
    worker = way.harness.serve(way.address, "-task-check-interval", "20ms")
    wait_until(lambda: way.state("gone") == "active", "the task does not start")
    worker.kill()
    way.client.delete(way.key("gone"))
    way.score("lease", "gone", 1)
    way.enqueue("other", retention="1h")
    # A worker looks for expired leases when it starts; with the sidecar the sweeper does too.
    way.work(lambda: way.state("other") == "completed" and (not way.sidecar or not way.places("gone")))
    assert way.places("gone") == way.either(plain={"active", "lease"}, sidecar=set())
    info = way.harness.try_inspect(way.address, {"op": "queue_info", "queue": "default"})[0]
    assert info["ok"] is way.either(plain=False, sidecar=True)


@swept
def test_a_running_task_whose_hash_is_gone_can_still_end(way: Way) -> None:
    """As long as its lease holds, an active ID stays, so that its worker can settle it as Asynq does."""
    way.enqueue("running", payload='{"do": "sleep", "ms": 1500}', retention="1h")
    worker = way.harness.serve(way.address, "-task-check-interval", "20ms")
    wait_until(lambda: way.state("running") == "active", "the task does not start")
    way.client.delete(way.key("running"))
    wait_until(lambda: way.state("running") == "completed", "the task does not complete")
    worker.stop()
    assert way.places("running") == {"completed"}


@swept
def test_a_half_task_in_the_queue_does_not_become_active_for_ever(way: Way) -> None:
    """A queued hash with a state and no message, which running a ghost leaves, is dropped when its turn comes."""
    way.client.hset(way.key("half"), "state", "pending")
    way.client.sadd("asynq:queues", "default")
    way.client.rpush(f"{QUEUE}pending", "half")
    way.work(lambda: not way.client.exists(f"{QUEUE}pending"))
    found = way.state("half"), way.places("half")
    assert found == way.either(plain=("active, no message", {"active", "lease"}), sidecar=("", set()))
    answer = way.enqueue("half")
    assert answer.get("kind", "enqueued") == way.either(plain="conflict", sidecar="enqueued")


@also_late
def test_a_half_task_in_the_archive_is_no_task(way: Way) -> None:
    """An archived hash with a state and no message, which archiving a ghost leaves, is not run and not left behind."""
    way.fail("whole")
    way.client.hset(way.key("half"), "state", "archived")
    way.client.zadd(f"{QUEUE}archived", {"half": time.time()})
    if way.sidecar and not way.late:
        wait_until(lambda: way.members("archived") == ["whole"], "the half-task is not swept")
    way.inspect("run_all", state="archived")
    way.work(lambda: way.state("whole") == "archived" and not way.client.exists(f"{QUEUE}pending"))
    found = way.state("half"), way.places("half")
    assert found == way.either(plain=("active, no message", {"active", "lease"}), sidecar=("", set()))


@swept
@pytest.mark.parametrize("version", ["v0.18.6", "v0.20.0"])
def test_an_old_worker_s_poll_gets_past_ids_without_a_task(way: Way, version: str) -> None:
    """Before v0.22 a poll that pops such an ID fails, and leaves it active without a deadline for ever."""
    way.client.hset(way.key("next"), mapping={"msg": "m", "state": "pending", "timeout": 1800, "deadline": 0})
    way.client.lpush(f"{QUEUE}pending", "gone", "half", "next")
    way.client.hset(way.key("half"), "state", "pending")
    poll = scripts(version)["dequeueCmd"].decode()
    keys = [QUEUE + name for name in ("pending", "paused", "active", "deadlines")]
    answers: list[object] = []
    with Redis.from_url(f"redis://{way.address}") as worker:
        for _ in range(3):
            try:
                task: Any = worker.eval(poll, len(keys), *keys, int(time.time()), f"{QUEUE}t:")
                answers.append(task and task[0])
            except ResponseError as error:
                answers.append("arithmetic" if "arithmetic" in str(error) else error)
    assert answers == way.either(plain=["arithmetic", "arithmetic", b"m"], sidecar=[b"m", None, None])
    active = way.client.lrange(f"{QUEUE}active", 0, -1)
    assert active == way.either(plain=[b"next", b"half", b"gone"], sidecar=[b"next"])
    assert way.hashes() == way.either(plain={"gone", "half", "next"}, sidecar={"next"})


# --- large archives, small caps ---------------------------------------------------------------------------


def fill_archive(client: "Redis", count: int, age_seconds: int) -> None:
    """Put tasks `old-0` and so on into the archive, as Asynq without a sidecar leaves them, oldest first."""
    client.sadd("asynq:queues", "default")
    client.eval(
        """
        for i = 0, tonumber(ARGV[1]) - 1 do
          redis.call('HSET', ARGV[3] .. 't:old-' .. i, 'msg', ARGV[4], 'state', 'archived')
          redis.call('ZADD', ARGV[3] .. 'archived', tonumber(ARGV[2]) + i / 1000, 'old-' .. i)
        end
        """,
        0,
        count,
        int(time.time()) - age_seconds,
        QUEUE,
        encode_task("x", "old", "default"),
    )


def archive_by_script(client: "Redis", name: str, cap: int) -> str:
    """Archive an active task by Asynq's own script with another cap than the one that is built in."""
    client.hset(f"{QUEUE}t:{name}", mapping={"msg": "m", "state": "active"})
    client.lpush(f"{QUEUE}active", name)
    client.zadd(f"{QUEUE}lease", {name: 1})
    call = AsynqCalls(lambda call: call, "default").archive(name, b"m", int(time.time()), cap)
    try:
        reply: Any = client.execute_command("EVAL", call.text, *call.words)
        return str(reply.decode())
    except ResponseError as error:
        return str(error)


def limited(way: Way, limit: str) -> None:
    """Put a limit on the archive, where there is a sidecar."""
    if way.sidecar:
        way.sidecar.reload(POLICY.replace("{ttl: 1h}, c", f"{{ttl: 1h, {limit}}}, c"))


@swept
def test_a_cap_of_one_keeps_the_newest_with_its_hash(way: Way) -> None:
    """`max: 1` keeps one task; with Asynq's script and that cap the entry goes and the hash stays for ever."""
    limited(way, "max: 1")
    if way.sidecar:
        way.fail("first")
        way.fail("second")
    else:
        assert [archive_by_script(way.client, name, 1) for name in ("first", "second")] == ["OK", "OK"]
    found = way.members("archived"), way.hashes()
    assert found == way.either(plain=([], {"first", "second"}), sidecar=(["second"], {"second"}))


@swept
def test_more_overdue_tasks_than_lua_can_unpack(way: Way) -> None:
    """With 8,500 overdue entries a task is archived, and they go; Asynq fails half-way and leaves all the entries."""
    fill_archive(way.client, 8_500, 91 * DAY)
    way.harness.enqueue(way.address, {"id": "new", "type": "x", "payload": '{"do": "skip"}'})
    way.harness.work(way.address)
    found = way.state("new"), way.client.zcard(f"{QUEUE}archived"), len(way.hashes())
    assert found == way.either(plain=("active", 8_501, 1), sidecar=("archived", 1, 1))


@swept
def test_an_archive_of_fifty_thousand_is_kept(way: Way) -> None:
    """`max: 50000` keeps the newest 50,000; Asynq deletes four fifths of them and then fails."""
    limited(way, "max: 50000")
    fill_archive(way.client, 49_999, 600)
    tasks = [{"id": f"new-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(3)]
    way.harness.enqueue(way.address, *tasks)
    way.harness.work(way.address)
    kept = way.hashes()
    found = way.client.zcard(f"{QUEUE}archived") == len(kept) == 50_000
    assert found is way.either(plain=False, sidecar=True)
    if way.sidecar:
        assert {"new-0", "new-1", "new-2", "old-2"} <= kept
        assert kept.isdisjoint({"old-0", "old-1"})
    else:
        assert len(kept) < 10_100


@swept
def test_a_cap_that_is_lowered(way: Way) -> None:
    """From 10,000 down to 100 the next failure trims index and hashes; Asynq's script with that cap fails half-way."""
    fill_archive(way.client, 10_000, 600)
    if way.sidecar:
        limited(way, "max: 10000")
        way.fail("first")
        assert (way.client.zcard(f"{QUEUE}archived"), len(way.hashes())) == (10_000, 10_000)
        limited(way, "max: 100")
        way.fail("second")
    else:
        assert "unpack" in archive_by_script(way.client, "second", 100)
    found = way.client.zcard(f"{QUEUE}archived"), len(way.hashes()), way.state("second")
    assert found == way.either(plain=(10_001, 99, "active"), sidecar=(100, 100, "archived"))
