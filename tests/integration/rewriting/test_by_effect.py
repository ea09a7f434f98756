"""Scripts of foreign workers, whose texts nobody understands: what becomes of the tasks that they end."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asynq_ttl.asynq import message
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.policy.rules import DEFAULT_POLICY, FOREVER_SCORE, FULL_ROLLOUT, TERMINAL, Mode, Policy, Rule, State
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from support.foreign_worker import ACTIVE, ARCHIVED, COMPLETED, FAIL, MOVE, PEEK, PENDING, QUEUE, TASK, json_message
from support.policy_calls import DELETE, FOREVER, GRACE, OWN, for_seconds, policy_of, types
from support.servers import Server, start_path_redis
from support.task_message import encode_task

HOUR = 3_600
DAY = 86_400
OWN_SECONDS = 90 * DAY
NANOSECONDS = 10**9
ALL = policy_of(Rule("all", archived=for_seconds(HOUR), completed=for_seconds(2 * HOUR)))


@pytest.fixture(scope="session")
def path_server() -> Iterator[Server]:
    """The Redis of PATH, 7.0."""
    with start_path_redis() as server:
        yield server


@pytest.fixture(params=["redis", "path", "valkey"])
def client(request: pytest.FixtureRequest) -> Iterator["redis.Redis"]:
    """Connect to each kind of server in turn, empty."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    server.reset()
    with server.client() as client:
        yield client


@dataclass(frozen=True)
class Foreign:
    """A call of a foreign worker's script."""

    text: bytes
    keys: tuple[str, ...]
    args: tuple[str | bytes | int | float, ...]


def fail(task_id: str = "1", msg: bytes = b"{}") -> Foreign:
    """Archive an active task: a score in nanoseconds, computed in Lua."""
    return Foreign(FAIL, (TASK + task_id, ACTIVE, ARCHIVED), (task_id, msg))


def move(start: str, end: str, state: str, score: float | str = "", task_id: str = "1") -> Foreign:
    """Move a task by the one script for every move."""
    return Foreign(MOVE, (TASK + task_id, start, end), (task_id, state, score))


def send(client: "redis.Redis", call: Foreign, policy: Policy = ALL, healed: tuple[str, ...] = ()) -> Any:
    """Call a script as the sidecar has it called; an error is an answer too, without the script's own SHA."""
    registry = ScriptRegistry()
    script = registry.learn(call.text)
    keys = [key.encode() for key in call.keys]
    rewrite = Rewriter(policy, set(healed)).rewrite_by_effect(keys)
    text, args = call.text, call.args
    if rewrite is not None and rewrite.enforced:
        wrapped = registry.by_effect(script)
        assert wrapped is not None
        assert rewrite.tail is not None
        text, args = wrapped.wrapper, (*call.args, rewrite.tail)
    sha = client.script_load(text)
    try:
        return client.evalsha(sha, len(keys), *call.keys, *args)
    except redis.ResponseError as error:
        return f"error {error}".replace(sha, "<sha>")


def plain(client: "redis.Redis", call: Foreign) -> Any:
    """Call a script as it is."""
    return send(client, call, policy_of())


def add(client: "redis.Redis", task_id: str = "1", state: str = "active", msg: bytes | None = None) -> None:
    """Put a live task into a list, with an encoded message of type `job:x` unless another is given."""
    content: dict[Any, Any] = {"state": state, "msg": encode_task("job:x", task_id) if msg is None else msg}
    client.hset(TASK + task_id, mapping=content)
    client.lpush(QUEUE + state, task_id)


def ttl(client: "redis.Redis", task_id: str = "1") -> int | None:
    """Return the seconds that a task's key has to live; None without a TTL."""
    left = int(client.pttl(TASK + task_id))
    assert left != -2, "the key is gone"
    return None if left == -1 else round(left / 1000)


def score(client: "redis.Redis", index: str, task_id: str = "1") -> float | None:
    """Return a task's score in an index."""
    found: float | None = client.zscore(index, task_id)
    return found


def now(client: "redis.Redis") -> int:
    """Return the server's time in seconds."""
    return int(client.time()[0])


def everything(client: "redis.Redis") -> dict[bytes, Any]:
    """Return the content of every key."""
    keys: Any = client.keys("*")
    return {key: client.dump(key) for key in keys}


# --- what ends gets its TTL -----------------------------------------------------------------------------------


def test_none_of_these_scripts_is_understood() -> None:
    """Otherwise they would show nothing here."""
    for text in (FAIL, MOVE, PEEK):
        assert ScriptRegistry().learn(text).kind in (Kind.UNKNOWN, Kind.OTHER)
        assert ScriptRegistry().learn(text).text


def test_an_archived_task_lives_for_its_retention(client: "redis.Redis") -> None:
    """In the very execution that archives it; its score, in nanoseconds, stays."""
    add(client)
    assert send(client, fail()) == [1, b"1"]
    assert ttl(client) == HOUR + GRACE
    found = score(client, ARCHIVED)
    assert found is not None
    assert found > NANOSECONDS**2


@pytest.mark.parametrize("ahead", [-DAY + 60, 0, 60, 30 * DAY, 3650 * DAY - 60])
def test_a_completed_task_is_due_when_its_rule_says(client: "redis.Redis", ahead: int) -> None:
    """A score in seconds is what a janitor goes by, so it is the policy's."""
    add(client)
    assert send(client, move(ACTIVE, COMPLETED, "completed", now(client) + ahead)) == b"MOVED"
    assert ttl(client) == 2 * HOUR + GRACE
    found = score(client, COMPLETED)
    assert found is not None
    assert abs(found - (now(client) + 2 * HOUR)) <= 2


@pytest.mark.parametrize("at", [0, 1_000_000, 1.7e12, 1.7e18, FOREVER_SCORE, "inf", "-inf"])
def test_a_score_that_is_no_moment_in_seconds_stays(client: "redis.Redis", at: float | str) -> None:
    """Nobody knows what it means; the key's TTL does not depend on it."""
    add(client)
    assert send(client, move(ACTIVE, COMPLETED, "completed", at)) == b"MOVED"
    assert ttl(client) == 2 * HOUR + GRACE
    assert score(client, COMPLETED) == float(at)


@pytest.mark.parametrize(("index", "state"), [(ARCHIVED, "archived"), (COMPLETED, "completed")])
def test_kept_for_ever_means_no_ttl(client: "redis.Redis", index: str, state: str) -> None:
    """Not even one from an earlier state; no janitor comes for it."""
    add(client)
    client.expire(TASK + "1", 100)
    policy = policy_of(Rule("all", archived=FOREVER, completed=FOREVER))
    before = now(client)
    assert send(client, move(ACTIVE, index, state, before), policy) == b"MOVED"
    assert ttl(client) is None
    assert score(client, index) == (FOREVER_SCORE if state == "completed" else before)


@pytest.mark.parametrize(("index", "state"), [(ARCHIVED, "archived"), (COMPLETED, "completed")])
def test_what_is_not_kept_goes_whole(client: "redis.Redis", index: str, state: str) -> None:
    """Hash, index entry, and the uniqueness lock if the task still holds it; nothing of another task."""
    policy = policy_of(Rule("all", archived=DELETE, completed=DELETE))
    for task_id, holder in (("1", "1"), ("2", "other")):
        add(client, task_id)
        client.hset(TASK + task_id, "unique_key", f"{QUEUE}unique:{task_id}")
        client.set(f"{QUEUE}unique:{task_id}", holder)
        assert send(client, move(ACTIVE, index, state, now(client), task_id), policy) == b"MOVED"
    assert client.keys("*") == [f"{QUEUE}unique:2".encode()]


def test_by_default_nothing_changes_but_that_keys_go(client: "redis.Redis") -> None:
    """Archived: 90 days. Completed: until its score says; else for the message's Retention; else nobody knows."""
    for task_id in "1234":
        add(client, task_id, msg=encode_task("job:x", task_id, retention_seconds=500 if task_id == "3" else 0))
    assert send(client, fail("1"), DEFAULT_POLICY) == [1, b"1"]
    due = now(client) + 600
    assert send(client, move(ACTIVE, COMPLETED, "completed", due, "2"), DEFAULT_POLICY) == b"MOVED"
    assert send(client, move(ACTIVE, COMPLETED, "completed", 1.7e18, "3"), DEFAULT_POLICY) == b"MOVED"
    assert send(client, move(ACTIVE, COMPLETED, "completed", 1.7e18, "4"), DEFAULT_POLICY) == b"MOVED"
    grace = DEFAULT_POLICY.grace_seconds
    assert ttl(client, "1") == OWN_SECONDS + grace
    left = ttl(client, "2")
    assert left is not None
    assert 595 + grace <= left <= 600 + grace
    assert score(client, COMPLETED, "2") == due
    assert (ttl(client, "3"), ttl(client, "4")) == (500 + grace, None)


def test_the_rule_is_picked_by_the_type_in_the_message(client: "redis.Redis") -> None:
    """JSON has no type that could be read, nor has a task without a message: they have the rule for every type."""
    policy = policy_of(
        Rule("typed", types=types("*x"), archived=for_seconds(60)), Rule("rest", archived=for_seconds(120))
    )
    for task_id, msg in (("1", encode_task("job:x")), ("2", encode_task("job:y")), ("3", json_message("job:x", "3"))):
        add(client, task_id, msg=msg)
        send(client, move(ACTIVE, ARCHIVED, "archived", 1, task_id), policy)
    add(client, "4")
    client.hdel(TASK + "4", "msg")
    send(client, move(ACTIVE, ARCHIVED, "archived", 1, "4"), policy)
    assert [ttl(client, task_id) for task_id in "1234"] == [60 + GRACE, 120 + GRACE, 120 + GRACE, 120 + GRACE]


def test_several_tasks_of_one_call_are_settled_alike(client: "redis.Redis") -> None:
    """Each by its own hash: one is archived, one lives on, one is gone. A task of another queue is no concern."""
    text = b"""
    redis.call(ARGV[1], KEYS[1], "state", "archived") redis.call("ZADD", KEYS[5], 1, "1")
    redis.call("DEL", KEYS[3]) redis.call("HSET", KEYS[4], "state", "archived")
    KEYS[1] = "elsewhere" return #KEYS
    """
    for task_id in "123":
        add(client, task_id)
        client.expire(TASK + task_id, 100)
    client.hset("asynq:{r}:t:4", "state", "active")
    keys = (TASK + "1", TASK + "2", TASK + "3", "asynq:{r}:t:4", ARCHIVED)
    assert send(client, Foreign(text, keys, ("HSET",))) == 5
    assert (ttl(client, "1"), ttl(client, "2")) == (HOUR + GRACE, None)
    assert client.exists(TASK + "3") == 0
    assert client.ttl("asynq:{r}:t:4") == -1


# --- what lives, and what was only looked at ------------------------------------------------------------------


def test_a_task_that_lives_again_has_no_ttl(client: "redis.Redis") -> None:
    """The same script brings it back; the next end counts anew."""
    add(client)
    send(client, fail())
    assert ttl(client) == HOUR + GRACE
    assert send(client, move(ARCHIVED, PENDING, "pending")) == b"MOVED"
    assert ttl(client) is None
    send(client, move(PENDING, COMPLETED, "completed", now(client) + 60))
    assert ttl(client) == 2 * HOUR + GRACE


def test_a_task_that_is_only_looked_at_keeps_what_it_has(client: "redis.Redis") -> None:
    """Neither a longer life nor a first TTL: it ended before."""
    add(client)
    send(client, fail())
    client.expire(TASK + "1", 100)
    look = Foreign(PEEK, (TASK + "1", ARCHIVED), ("1",))
    assert send(client, look)[0] == b"archived"
    assert ttl(client) == 100
    client.persist(TASK + "1")
    send(client, look)
    assert ttl(client) is None


def test_a_task_that_ends_again_counts_anew(client: "redis.Redis") -> None:
    """Its state is the same as before, its score is another one."""
    add(client)
    send(client, fail())
    client.expire(TASK + "1", 100)
    assert send(client, fail()) == [1, b"1"]
    assert ttl(client) == HOUR + GRACE


def test_from_one_end_to_another_the_new_rule_counts(client: "redis.Redis") -> None:
    """Where that says nothing, the TTL of the earlier state does not end the task."""
    for policy, expected in ((ALL, 2 * HOUR + GRACE), (policy_of(Rule("r", archived=for_seconds(HOUR))), None)):
        client.flushall()
        add(client)
        send(client, fail(), policy)
        assert ttl(client) == HOUR + GRACE
        send(client, move(ARCHIVED, COMPLETED, "completed", now(client) + 60), policy)
        assert ttl(client) == expected


def test_without_a_rule_for_its_state_a_task_keeps_what_the_script_gave_it(client: "redis.Redis") -> None:
    """A worker may have a TTL of its own."""
    text = b'redis.call("HSET", KEYS[1], "state", ARGV[1]) return redis.call("EXPIRE", KEYS[1], 77)'
    add(client)
    policy = policy_of(Rule("r", archived=for_seconds(HOUR)))
    assert send(client, Foreign(text, (TASK + "1", COMPLETED), ("completed",)), policy) == 1
    assert ttl(client) == 77


def test_a_ghost_among_the_completed_does_not_fail_a_completion(client: "redis.Redis") -> None:
    """An ID of an earlier life in the index leaves it first, as for Asynq's own script."""
    text = b"""
    if redis.call("ZADD", KEYS[2], ARGV[2], ARGV[1]) == 0 then return redis.error_reply("INTERNAL") end
    return redis.call(ARGV[3], KEYS[1], "state", "completed")
    """
    add(client)
    client.zadd(COMPLETED, {"1": 5})
    assert send(client, Foreign(text, (TASK + "1", COMPLETED), ("1", now(client), "HSET"))) == 0
    assert ttl(client) == 2 * HOUR + GRACE


# --- modes and shares -----------------------------------------------------------------------------------------


def test_in_shadow_mode_nothing_changes(client: "redis.Redis") -> None:
    """Unless the queue had TTLs before: then only what lives again loses them."""
    shadow = policy_of(*ALL.rules, mode=Mode.SHADOW)
    add(client)
    send(client, fail(), shadow)
    assert ttl(client) is None
    client.expire(TASK + "1", 100)
    send(client, Foreign(PEEK, (TASK + "1", ARCHIVED), ("1",)), shadow, ("q",))
    assert ttl(client) == 100
    send(client, move(ARCHIVED, PENDING, "pending"), shadow)
    assert ttl(client) == 100
    client.rpoplpush(PENDING, ACTIVE)
    send(client, move(ACTIVE, ARCHIVED, "active", 1), shadow, ("q",))
    assert ttl(client) is None


def test_outside_the_share_of_a_rollout_a_task_gets_nothing(client: "redis.Redis") -> None:
    """Lua and Python agree whose turn it is."""
    half = policy_of(*ALL.rules, rollout=FULL_ROLLOUT // 2)
    for number in range(20):
        task_id = f"task{number}"
        add(client, task_id)
        send(client, fail(task_id), half)
        assert (ttl(client, task_id) is not None) is half.enforces(task_id.encode())


# --- the script is the script it was --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        (b"return", None),
        (b"return {1, 'two', false, {3}}", [1, b"two", None, [3]]),
        (b"return redis.error_reply('NOT FOUND')", "error NOT FOUND"),
        (
            b"return redis.pcall('GET', KEYS[2])",
            "error WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (b"return #ARGV", 1),
        (b"table.remove(KEYS) table.remove(ARGV) return #KEYS", 1),
    ],
)
def test_the_reply_is_the_script_s_own(client: "redis.Redis", text: bytes, reply: object) -> None:
    """Whatever it is; the wrapper's argument is gone before the script runs."""
    add(client)
    client.zadd(ARCHIVED, {"other": 1})
    call = Foreign(b"local state = 'archived' " + text, (TASK + "1", ARCHIVED), ("1",))
    assert send(client, call) == plain(client, call) == reply


def test_a_runtime_error_is_the_script_s_own(client: "redis.Redis") -> None:
    """The same words with the same line, and nothing is done after it."""
    text = (
        b'local state = "archived"\nredis.call("HSET", KEYS[1], "state", state)\n\nreturn no_such_function(KEYS[2])\n'
    )
    call = Foreign(text, (TASK + "1", ARCHIVED), ("1",))
    answers = []
    for way in (plain, send):
        client.flushall()
        add(client)
        answers.append((way(client, call), everything(client), ttl(client)))
    assert "user_script:4: " in str(answers[0][0])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("spoilt", [TASK + "1", ARCHIVED, QUEUE + "completed"])
def test_a_key_of_another_type_fails_no_more_than_without(client: "redis.Redis", spoilt: str) -> None:
    """What the wrapper adds goes by pcall."""
    call = Foreign(PEEK, (TASK + "1", ARCHIVED), ("1",))
    answers = []
    for way in (plain, send):
        client.flushall()
        add(client)
        client.delete(spoilt)
        client.set(spoilt, "a string")
        answers.append((way(client, call), everything(client)))
    assert answers[0] == answers[1]


def test_an_acl_that_denies_what_the_wrapper_adds_fails_no_task(client: "redis.Redis") -> None:
    """The task moves as without a sidecar."""
    denied = ["-persist", "-pexpire", "-time", "-hmget", "-zscore"]
    client.acl_setuser("worker", True, passwords=["+secret"], keys=["*"], categories=["+@all"], commands=denied)
    port = client.connection_pool.connection_kwargs["port"]
    try:
        add(client)
        with redis.Redis(port=port, username="worker", password="secret") as worker:
            assert send(worker, move(ACTIVE, COMPLETED, "completed", now(client))) == b"MOVED"
            assert send(worker, move(COMPLETED, PENDING, "pending")) == b"MOVED"
    finally:
        client.acl_deluser("worker")
    assert client.lrange(PENDING, 0, -1) == [b"1"]


def test_a_script_that_turns_to_resp_3_is_answered_in_it(client: "redis.Redis") -> None:
    """The wrapper reads either form of a reply, and leaves the script's own as it is."""
    text = b"""
    redis.setresp(3) redis.call("HSET", KEYS[1], "state", ARGV[1]) redis.call("ZADD", KEYS[2], ARGV[2], "1")
    return redis.call("ZSCORE", KEYS[2], "1")
    """
    add(client)
    at = now(client)
    call = Foreign(text, (TASK + "1", COMPLETED), ("completed", at))
    reply = send(client, call)
    assert ttl(client) == 2 * HOUR + GRACE
    assert score(client, COMPLETED) != at
    assert reply == plain(client, call)


# --- two pickers, one answer ----------------------------------------------------------------------------------

RETENTIONS = st.one_of(st.integers(1, 100 * 365 * DAY).map(for_seconds), st.sampled_from([OWN, FOREVER, DELETE]))
GLOBS = st.sampled_from(["*", "job:*", "job:?", "[a-k]*", "mail", "*x", "é*"])
TYPES = st.sampled_from(["job:x", "job:é", "mail", "", "é", "zoo", "日本x"])


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Make a policy of some rules by type, perhaps with one for every type behind them."""

    def rule(name: str, *globs: str) -> Rule:
        archived = draw(st.none() | RETENTIONS)
        completed = draw(st.none() | RETENTIONS)
        return Rule(name, types=types(*globs), archived=archived, completed=completed)

    typed = draw(st.lists(st.lists(GLOBS, min_size=1, max_size=2), max_size=3))
    rules = [rule(f"rule{number}", *globs) for number, globs in enumerate(typed)]
    if draw(st.booleans()):
        rules.append(rule("rest"))
    return policy_of(*rules, rollout=draw(st.sampled_from([0, 1, FULL_ROLLOUT // 2, FULL_ROLLOUT])))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Make what stands for a message: mostly one, sometimes JSON, a part of one, or nothing."""
    task_type = draw(TYPES)
    whole = encode_task(task_type, "1", retention_seconds=draw(st.sampled_from([0, 1, 700])))
    return draw(st.sampled_from([whole, whole, whole, json_message(task_type, "1"), whole[:-1], b""]))


def kept_by_policy(policy: Policy, task_id: str, msg: bytes, state: State, ahead: float) -> int | None:
    """Return how many seconds the policy keeps a task; 0 not at all, None without a limit on its key."""
    if not policy.enforces(task_id.encode()):
        return None
    try:
        told: message.TaskMessage | None = message.decode(msg)
    except message.MessageError:
        told = None
    verdict = policy.decide("q", told.type if told else None, state)
    own: int | None = OWN_SECONDS
    if state is State.COMPLETED:
        own = round(ahead) if 0 < ahead < DAY else told.retention_seconds if told else None
    if verdict is None:
        limits = policy.archive_limits("q") if state is State.ARCHIVED else None
        return OWN_SECONDS if limits is not None and limits.outlasts(OWN_SECONDS) else None
    if verdict.retention == OWN and not own:
        return None
    return verdict.retention.resolve(own or 0)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=policies(),
    msg=messages(),
    state=st.sampled_from(TERMINAL),
    ahead=st.sampled_from([600, -1, 1.7e18]),
    task_id=st.text("abcdef012", min_size=1, max_size=5),
)
@example(policy=DEFAULT_POLICY, msg=b"", state=State.COMPLETED, ahead=-1, task_id="a")
@example(
    policy=policy_of(Rule("any", types=types("*"), archived=DELETE), Rule("rest", archived=FOREVER)),
    msg=json_message("x", "a"),
    state=State.ARCHIVED,
    ahead=600,
    task_id="a",
)
def test_the_rule_picked_in_redis_is_the_one_the_policy_decides_on(  # noqa: PLR0917 - what an example is made of
    server: Server, policy: Policy, msg: bytes, state: State, ahead: float, task_id: str
) -> None:
    """For any rules, message, score and share, a task that ends by effect gets what `Policy.decide` says."""
    with server.client() as client:
        client.flushdb()
        add(client, task_id, msg=msg)
        at = now(client)
        index = QUEUE + state.value
        assert send(client, move(ACTIVE, index, state.value, at + ahead, task_id), policy) == b"MOVED"
        kept = kept_by_policy(policy, task_id, msg, state, ahead)
        assert (client.exists(TASK + task_id) == 1) is (score(client, index, task_id) is not None) is (kept != 0)
        if kept != 0:
            left = ttl(client, task_id)
            assert left is None if kept is None else left is not None and abs(left - kept - GRACE) <= 2


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=60))
@example(data=b"\x80" * 200)
@example(data=b"\x60" + b"\xff" * 9 + b"\x01")
@example(data=b"\x0a" + b"\xff" * 200)
def test_a_message_of_any_bytes_fails_nothing(server: Server, data: bytes) -> None:
    """The task ends, and its message is what it was."""
    with server.client() as client:
        client.flushdb()
        add(client, msg=data)
        policy = policy_of(Rule("some", types=types("*x*", "???"), completed=OWN, archived=for_seconds(60)))
        assert send(client, move(ACTIVE, COMPLETED, "completed", 1.7e18), policy) == b"MOVED"
        assert client.hget(TASK + "1", "msg") == data
        assert score(client, COMPLETED) == 1.7e18


# --- what it costs --------------------------------------------------------------------------------------------


def test_a_call_that_ends_nothing_asks_redis_little(client: "redis.Redis") -> None:
    """For a task that lives on: its state and a score before, its state after, and taking off its TTL."""
    asked = []
    for way in (plain, send):
        client.flushall()
        add(client)
        client.config_resetstat()
        way(client, move(ACTIVE, ARCHIVED, "active", 1))
        told: Any = client.info("commandstats")
        asked.append({name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()})
    names = asked[1].keys() - {"config|resetstat", "info", "flushall"}
    more = {name: asked[1][name] - asked[0].get(name, 0) for name in names}
    assert {name: count for name, count in more.items() if count} == {"hget": 2, "zscore": 1, "persist": 1}
