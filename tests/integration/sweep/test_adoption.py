"""Tasks that ended in a way that no command tells of get what the policy says, from the sweeper."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.plan import Act, Standing, plan
from asynq_ttl.policy.rules import Adopt, Keep, Policy, Retention, Rule, State
from asynq_ttl.policy_file.load import parse_policy
from asynq_ttl.sweep.schedule import PAGE_SIZE
from support.asynq import Harness
from support.servers import Server, SidecarFactory, wait_until
from support.task_message import encode_task
from support.webhook import Webhook
from trials.model.sidecar_thread import SidecarThread

POLICY = """
version: 1
grace: 30s
adopt: new
rules:
  - {name: precious, match: {type: "precious:*"}, archived: {ttl: forever}, completed: {ttl: forever}}
  - {name: noise, match: {type: "noise:*"}, archived: {ttl: delete}, completed: {ttl: delete}}
  - {name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}
"""
QUEUE = "asynq:{default}:"
HOUR = 3_600
UNTIMED, GONE = -1, -2
JSON = b'{"type": "precious:x", "id": "json"}'


class Scene:
    """One Redis, and a sidecar that sweeps when a test says so."""

    def __init__(self, server: Server, client: "Redis", sidecar: SidecarThread) -> None:
        self.server = server
        self.client = client
        self.sidecar = sidecar
        self.client.sadd("asynq:queues", "default")

    def put(self, name: str, state: str, score: float, message: bytes = b"\n\x01x", index: str = "") -> None:
        """Put an ended task into Redis with plain commands, as somebody past the sidecar does."""
        self.client.hset(f"{QUEUE}t:{name}", mapping={"msg": message, "state": state})
        self.client.zadd(f"{QUEUE}{index or state}", {name: score})

    def ttl(self, name: str) -> int:
        """Return a task's TTL in seconds; UNTIMED or GONE."""
        return int(self.client.ttl(f"{QUEUE}t:{name}"))

    def score(self, state: str, name: str) -> float | None:
        """Return the score of a task in an index."""
        found: float | None = self.client.zscore(f"{QUEUE}{state}", name)
        return found

    def members(self, state: str) -> set[str]:
        """Return the IDs in an index."""
        found: Any = self.client.zrange(f"{QUEUE}{state}", 0, -1)
        return {name.decode() for name in found}


@pytest.fixture
def scene(server: Server) -> Iterator[Scene]:
    """A scene on each kind of server."""
    with server.client() as client, SidecarThread(server) as sidecar:
        sidecar.start(POLICY)
        yield Scene(server, client, sidecar)
        assert sidecar.fail_opens() == {}


def completed(task_type: str, at: float, retention: int = HOUR) -> bytes:
    """Return the message of a task that completed at a moment."""
    return encode_task(task_type, retention_seconds=retention, completed_at=int(at))


def test_what_ended_past_the_sidecar_gets_its_ttl(scene: Scene) -> None:
    """Counted from when it ended, as if a command through the sidecar had ended it; the janitor goes by the same."""
    now = time.time()
    scene.put("dead", "archived", now)
    scene.put("done", "completed", now + HOUR, completed("x", now))
    scene.put("precious", "archived", now, b"\n\x0aprecious:x")
    scene.sidecar.sweep()
    assert HOUR + 20 <= scene.ttl("dead") <= HOUR + 30
    assert 2 * HOUR + 20 <= scene.ttl("done") <= 2 * HOUR + 30
    assert scene.ttl("precious") == UNTIMED
    assert scene.score("completed", "done") == int(now) + 2 * HOUR
    assert scene.score("archived", "dead") == pytest.approx(now)


def test_what_ended_before_the_sidecar_began_stays_as_it_is(scene: Scene) -> None:
    """With `new`, which is the default; `all` takes it too, and `off` takes nothing."""
    before = time.time() - 600
    for name, state, score, message in (
        ("dead", "archived", before, b"\n\x01x"),
        ("done", "completed", before + HOUR, completed("x", before)),
    ):
        scene.put(name, state, score, message)
    scene.sidecar.sweep()
    assert scene.ttl("dead") == scene.ttl("done") == UNTIMED
    scene.sidecar.reload(POLICY.replace("adopt: new", "adopt: off"))
    scene.put("new", "archived", time.time())
    scene.sidecar.sweep()
    assert scene.ttl("new") == UNTIMED
    scene.sidecar.reload(POLICY.replace("adopt: new", "adopt: all"))
    scene.sidecar.sweep()
    assert HOUR - 600 + 20 <= scene.ttl("dead") <= HOUR - 600 + 30
    assert 2 * HOUR - 600 + 20 <= scene.ttl("done") <= 2 * HOUR - 600 + 30
    assert scene.ttl("new") > HOUR


def test_what_is_due_already_goes_whole(scene: Scene) -> None:
    """Hash, entry and uniqueness lock, in the same round; also what the policy does not keep at all."""
    scene.sidecar.reload(POLICY.replace("adopt: new", "adopt: all"))
    now = time.time()
    for state, since in (("archived", now - 2 * HOUR), ("completed", now - HOUR)):
        scene.put(f"{state}-due", state, since, completed("x", now - 3 * HOUR))
        scene.put(f"{state}-noise", state, now, completed("noise:x", now))
        scene.client.hset(f"{QUEUE}t:{state}-due", "unique_key", f"{QUEUE}unique:{state}")
        scene.client.set(f"{QUEUE}unique:{state}", f"{state}-due")
    scene.put("kept", "archived", now)
    scene.sidecar.sweep()
    assert (scene.members("archived"), scene.members("completed")) == ({"kept"}, set())
    assert scene.client.keys(f"{QUEUE}t:*") == [f"{QUEUE}t:kept".encode()]
    assert scene.client.keys(f"{QUEUE}unique:*") == []


@pytest.mark.parametrize("score", [1.0, 0.0, 1.79e18, 4.1e9, float("inf")])
def test_what_cannot_be_dated_counts_from_now(scene: Scene, score: float) -> None:
    """A score that is no death, a message without the time of its end: it is never gone at once."""
    scene.put("dead", "archived", score)
    scene.put("noise", "archived", score, encode_task("noise:x"))
    scene.put("done", "completed", score, completed("x", 0, HOUR))
    scene.sidecar.sweep()
    assert HOUR + 20 <= scene.ttl("dead") <= HOUR + 30
    assert 2 * HOUR + 20 <= scene.ttl("done") <= 2 * HOUR + 30
    assert 20 <= scene.ttl("noise") <= 31
    assert scene.score("archived", "dead") == score
    for _ in range(3):
        time.sleep(0.5)
        scene.sidecar.sweep()
    assert (scene.members("archived"), scene.members("completed")) == ({"dead"}, {"done"})
    assert scene.ttl("noise") == GONE


def test_a_message_that_cannot_be_read_is_a_matter_of_rules_without_a_type(scene: Scene) -> None:
    """A rule that asks for its type does not decide. With `keep`, its score says how long."""
    now = time.time()
    scene.put("json", "archived", now, JSON)
    scene.put("json-done", "completed", now * 1e9, JSON)
    scene.sidecar.sweep()
    assert HOUR + 20 <= scene.ttl("json") <= HOUR + 30
    assert 2 * HOUR + 20 <= scene.ttl("json-done") <= 2 * HOUR + 30
    assert scene.score("completed", "json-done") == now * 1e9
    scene.sidecar.reload("version: 1\ngrace: 30s\nrules: [{name: own, completed: {ttl: keep}, archived: {ttl: keep}}]")
    for name, score in (("seconds", now + 600), ("nanoseconds", (now + 600) * 1e9), ("over", now - 1), ("none", 0)):
        scene.put(name, "completed", score, JSON)
    scene.sidecar.sweep()
    assert 620 <= scene.ttl("seconds") <= 630
    assert 620 <= scene.ttl("nanoseconds") <= 630
    assert scene.ttl("over") == scene.ttl("none") == UNTIMED


def test_where_only_rules_by_type_are_what_cannot_be_read_stays(scene: Scene) -> None:
    """No rule says anything about it."""
    scene.sidecar.reload('version: 1\nrules: [{name: a, match: {type: "a*"}, archived: {ttl: 1h}}]')
    scene.put("json", "archived", time.time(), JSON)
    scene.put("a", "archived", time.time(), encode_task("a"))
    scene.sidecar.sweep()
    assert scene.ttl("json") == UNTIMED
    assert scene.ttl("a") > HOUR


def test_in_shadow_mode_it_is_only_told_and_once(scene: Scene) -> None:
    """Nothing is changed in Redis, no lock is taken; small archives and large ones."""
    scene.sidecar.reload(POLICY.replace("version: 1", "version: 1\nmode: shadow"))
    names = [f"dead-{number}" for number in range(PAGE_SIZE + 7)]
    now = time.time()
    for name in names:
        scene.put(name, "archived", now)
    scene.put("done", "completed", now + HOUR, completed("x", now))
    scene.put("ghost", "pending", now, index="completed")
    before = {key: scene.client.dump(key) for key in scene.client.keys("*")}
    for _ in range(6):
        scene.sidecar.sweep()
    assert {key: scene.client.dump(key) for key in scene.client.keys("*")} == before
    assert all(scene.client.ttl(key) == UNTIMED for key in before)
    told = scene.sidecar.adoptions()
    assert told == {("default", "archived", "all", "shadow"): len(names), ("default", "completed", "all", "shadow"): 1}


def test_only_the_share_of_the_rollout_is_adopted(scene: Scene) -> None:
    """The same share that commands are decided by."""
    names = [f"dead-{number}" for number in range(200)]
    for name in names:
        scene.put(name, "archived", time.time())
    text = POLICY.replace("adopt: new", "rollout: 30%")
    scene.sidecar.reload(text)
    scene.sidecar.sweep()
    policy = parse_policy(text, "test")
    assert {name for name in names if scene.ttl(name) > 0} == {name for name in names if policy.enforces(name.encode())}


def test_nothing_but_an_ended_task_is_touched(scene: Scene) -> None:
    """Live tasks, tasks elsewhere, other keys at their place, queues with ambiguous names or without a rule."""
    now = time.time()
    scene.put("live", "pending", now, index="archived")
    scene.put("other", "completed", now, index="archived")
    scene.put("strange", "shelved", now, index="archived")
    scene.client.set(f"{QUEUE}t:string", "x")
    scene.client.zadd(f"{QUEUE}archived", {"string": now})
    scene.client.lpush(f"{QUEUE}completed", "done")
    scene.client.hset(f"{QUEUE}t:done", mapping={"msg": "x", "state": "completed"})
    for queue in ("a}:b", "elsewhere"):
        scene.client.sadd("asynq:queues", queue)
        scene.client.hset(f"asynq:{{{queue}}}:t:dead", mapping={"msg": "x", "state": "archived"})
        scene.client.zadd(f"asynq:{{{queue}}}:archived", {"dead": now})
    scene.sidecar.reload(
        "version: 1\nrules: [{name: d, match: {queue: 'd*'}, archived: {ttl: 1h}, completed: {ttl: 1h}}]"
    )
    for _ in range(2):
        scene.sidecar.sweep()
    names = ("live", "other", "strange", "string", "done")
    assert [scene.ttl(name) for name in names] == [UNTIMED] * len(names)
    assert scene.client.ttl("asynq:{a}:b}:t:dead") == scene.client.ttl("asynq:{elsewhere}:t:dead") == UNTIMED
    assert scene.sidecar.adoptions() == {}


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Make a policy of some rules by type, perhaps with one for every type behind them."""
    retentions = st.one_of(
        st.integers(1, 3 * HOUR).map(lambda seconds: Retention(Keep.TTL, seconds)),
        st.sampled_from([Retention(Keep.OWN), Retention(Keep.FOREVER), Retention(Keep.DELETE)]),
    )
    globs = [
        *draw(st.lists(st.sampled_from(["a*", "?b", "[ab]*", "ab"]), max_size=3)),
        *draw(st.sampled_from([[], [""]])),
    ]
    rules = [
        Rule(
            f"rule{number}",
            types=(compile_glob(glob),) if glob else (),
            archived=draw(st.one_of(st.none(), retentions)),
            completed=draw(st.one_of(st.none(), retentions)),
        )
        for number, glob in enumerate(globs)
    ]
    return Policy(tuple(rules), grace_seconds=30, rollout=draw(st.sampled_from([10_000, 5_000, 0])), adopt=Adopt.ALL)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=policies(),
    tasks=st.lists(
        st.tuples(st.sampled_from(["a", "b", "ab", "é"]), st.integers(0, 4 * HOUR), st.integers(1, 2 * HOUR)),
        min_size=1,
        max_size=8,
    ),
)
def test_the_sweeper_gives_what_the_policy_plans(
    scene: Scene, policy: Policy, tasks: list[tuple[str, int, int]]
) -> None:
    """Rule, time, score and share are picked in Redis as `plan` picks them, in both states."""
    scene.client.flushall()
    scene.client.sadd("asynq:queues", "default")
    now = int(time.time())
    expected = {}
    for number, (task_type, age, retention) in enumerate(tasks):
        for state in State:
            name, done = f"{state.value}-{number}", state is State.COMPLETED
            score = now - age + (retention if done else 0)
            scene.put(name, state.value, score, completed(task_type, now - age, retention))
            standing = Standing("default", name.encode(), task_type, state, now - age, score, retention, timed=False)
            expected[name] = plan(policy, standing, now)
    scene.sidecar.use(policy)
    scene.sidecar.sweep()
    for name, planned in expected.items():
        index, expires = name.partition("-")[0], scene.ttl(name) + time.time()
        if planned is None or planned.act is Act.PERSIST or (planned.reason == "kept for ever"):
            assert scene.ttl(name) == UNTIMED
        elif planned.act is Act.REMOVE:
            assert (scene.ttl(name), scene.score(index, name)) == (GONE, None)
        elif scene.ttl(name) != GONE:  # its time may have come meanwhile
            assert planned.expires_at is not None
            assert abs(expires - planned.expires_at) < 5
            assert planned.score is None or abs((scene.score(index, name) or 0) - planned.score) < 2


def test_large_indexes_are_gone_through_page_by_page(scene: Scene) -> None:
    """The newest of an archive at once, the others by the patrol; so are messages too large for one script."""
    scene.sidecar.reload(POLICY.replace("adopt: new", "adopt: all"))
    now, count = time.time(), 2 * PAGE_SIZE + 7
    for number in range(count):
        scene.put(f"done-{number:04}", "completed", now + number, completed("x", now))
        scene.put(f"old-{number:04}", "archived", now - 1000 + number / count)
    big = encode_task("x", payload=b"x" * 1_000_000)
    for number in range(9):
        scene.put(f"big-{number}", "archived", now, big)
    scene.sidecar.sweep()
    assert all(scene.ttl(f"big-{number}") > 0 for number in range(9))
    for _ in range(8):
        scene.sidecar.sweep()
    untimed = [key for key in scene.client.keys(f"{QUEUE}t:*") if scene.client.ttl(key) == UNTIMED]
    assert untimed == []
    assert sum(scene.sidecar.adoptions().values()) == 2 * count + 9


def test_a_worker_with_plain_commands(server: Server, start_sidecar: SidecarFactory) -> None:
    """Through the sidecar: a TTL in the next round, also where a list stands in the place of an index."""
    sidecar = start_sidecar(server.url, POLICY, sweep_interval="0.2")
    with server.client() as direct, sidecar.client() as worker:
        worker.sadd("asynq:queues", "default")
        for name in ("dead", "done"):
            worker.hset(f"{QUEUE}t:{name}", mapping={"msg": encode_task("x", name), "state": "pending"})
            worker.lpush(f"{QUEUE}pending", name)
        for state in ("archived", "completed"):
            name = worker.brpoplpush(f"{QUEUE}pending", f"{QUEUE}active", 1)
            assert worker.hgetall(f"{QUEUE}t:{name.decode()}")
            worker.lrem(f"{QUEUE}active", 1, name)
            worker.hset(f"{QUEUE}t:{name.decode()}", "state", state)
            if state == "archived":
                worker.zadd(f"{QUEUE}archived", {name: time.time()})
            else:
                worker.lpush(f"{QUEUE}completed", name)
        wait_until(lambda: HOUR < direct.ttl(f"{QUEUE}t:dead") <= HOUR + 30, "the archived task gets no TTL")
        assert direct.ttl(f"{QUEUE}t:done") == UNTIMED
        sidecar.expected_warnings += ["completed of queue default in database 0 cannot be swept"]


def test_a_worker_of_asynq_past_the_sidecar(server: Server, harness: Harness, start_sidecar: SidecarFactory) -> None:
    """Its tasks get their TTL, go in time without leaving a ghost, and are live without one when they are run again."""
    sidecar = start_sidecar(server.url, POLICY.replace("1h", "3s").replace("2h", "3s"), sweep_interval="0.2")
    past = f"127.0.0.1:{server.port}"
    skip = '{"do": "skip"}'
    harness.enqueue(
        past,
        {"id": "dead", "type": "x", "payload": skip, "unique": "1h"},
        {"id": "done", "type": "x", "retention": "1h"},
        {"id": "kept", "type": "precious:x", "payload": skip},
    )
    harness.work(past)
    with server.client() as client:
        wait_until(lambda: client.ttl(f"{QUEUE}t:dead") > 0 and client.ttl(f"{QUEUE}t:done") > 0, "no TTL comes")
        wait_until(lambda: client.exists(f"{QUEUE}t:dead", f"{QUEUE}t:done") == 0, "what is due stays")
        assert client.zrange(f"{QUEUE}archived", 0, -1) == [b"kept"]
        assert client.zrange(f"{QUEUE}completed", 0, -1) == []
        assert client.keys(f"{QUEUE}unique:*") == []
        assert client.ttl(f"{QUEUE}t:kept") == UNTIMED
    assert harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]["archived"] == 1


def test_with_a_sink_what_is_due_is_handed_over_first(server: Server, start_sidecar: SidecarFactory) -> None:
    """Also what the policy does not keep at all; what is kept waits for its time."""
    now = time.time()
    with server.client() as client, Webhook() as sink:
        client.sadd("asynq:queues", "default")
        for name, state, score, message in (
            ("dead", "archived", now - 2 * HOUR, encode_task("x", "dead")),
            ("done", "completed", now - HOUR, completed("x", now - 3 * HOUR)),
            ("noise", "archived", now - 10, encode_task("noise:x", "noise")),
            ("kept", "archived", now, encode_task("x", "kept")),
        ):
            client.hset(f"{QUEUE}t:{name}", mapping={"msg": message, "state": state})
            client.zadd(f"{QUEUE}{state}", {name: score})
        start_sidecar(server.url, POLICY.replace("new", "all"), sweep_interval="0.2", sink=sink.address)
        wait_until(
            lambda: client.exists(*(f"{QUEUE}t:{name}" for name in ("dead", "done", "noise"))) == 0, "all stays", 20
        )
        assert len(sink.taken) == 3
        assert client.zrange(f"{QUEUE}archived", 0, -1) == [b"kept"]
        assert client.ttl(f"{QUEUE}t:kept") > HOUR
