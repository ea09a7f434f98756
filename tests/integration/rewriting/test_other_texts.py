"""Texts that differ from Asynq's, and are understood, beside themselves on real servers.

The texts are this project's own: an archive script that trims as another release might, and bulk scripts that take only
some tasks at a time.
"""

import pytest
import redis

from asynq_ttl.policy.rules import DEFAULT_POLICY, Policy, Rule
from asynq_ttl.rewriting.registry import Script, ScriptRegistry
from asynq_ttl.rewriting.rewriter import Rewriter
from support.policy_calls import DAY, GRACE, NOW, for_seconds, policy_of
from support.servers import Server
from support.small_scripts import ARCHIVE, ARCHIVE_ALL, DELETE_ALL, RUN_ALL
from support.task_message import encode_task

QUEUE = "asynq:{q}:"
PREFIX = f"{QUEUE}t:"

BY_NUMBER = b'redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5])'
BY_AGE = b'redis.call("ZREMRANGEBYSCORE", KEYS[3], "-inf", ARGV[4])'
# What an archive may be trimmed by, and how many entries stay of a cap of five.
TRIMS: dict[str, tuple[bytes, int]] = {
    "as today": (b'redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5])', 4),
    "one more": (b'redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -(ARGV[5] + 1))', 5),
    "a name": (b'local max = tonumber(ARGV[5]) redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -max - 1)', 5),
    "if any": (b'if tonumber(ARGV[5]) > 0 then redis.call("ZREMRANGEBYRANK", KEYS[3], 0, -ARGV[5] - 1) end', 5),
    "popped": (
        b'local n = redis.call("ZCARD", KEYS[3]) - ARGV[5] if n > 0 then redis.call("ZPOPMIN", KEYS[3], n) end',
        5,
    ),
    "popped one by one": (
        b'while redis.call("ZCARD", KEYS[3]) > tonumber(ARGV[5]) do redis.call("ZPOPMIN", KEYS[3]) end',
        5,
    ),
    "popped at most": (
        b'redis.call("ZPOPMIN", KEYS[3], math.max(redis.call("ZCARD", KEYS[3]) - ARGV[5], 0))',
        5,
    ),
    "by rank": (
        b'local n = redis.call("ZCARD", KEYS[3]) - ARGV[5] if n >= 0 then RANKS end'.replace(
            b"RANKS", b'redis.call("ZREMRANGEBYRANK", KEYS[3], 0, n)'
        ),
        4,
    ),
    "not at all": (b"", 9),
}
each_trim = pytest.mark.parametrize("trim", TRIMS)


def archive_script(trim: str) -> bytes:
    """Return an archive script with a trim by number."""
    return ARCHIVE.replace(BY_NUMBER, TRIMS[trim][0])


def put(client: redis.Redis, task_id: str, state: str, score: int, task_type: str = "job:x") -> None:
    """Put a task into a set."""
    client.hset(PREFIX + task_id, mapping={"msg": encode_task(task_type, task_id, "q"), "state": state})
    client.zadd(QUEUE + state, {task_id: score})


def send(client: redis.Redis, text: bytes, policy: Policy | None, keys: list[str], args: list[object]) -> object:
    """Call a script as it is, or as the sidecar has it called by a policy."""
    words = (
        [f"{QUEUE}{key}".encode() for key in keys],
        [str(arg).encode() if type(arg) is not bytes else arg for arg in args],
    )
    if policy is None:
        return client.execute_command("EVAL", text, len(keys), *words[0], *words[1])
    script: Script = ScriptRegistry().learn(text)
    command = [b"EVALSHA", script.sha, b"%d" % len(keys), *words[0], *words[1]]
    rewrite = Rewriter(policy, set()).rewrite(script, command, len(keys))
    assert rewrite is not None
    assert rewrite.enforced
    for number, value in rewrite.argv:
        words[1][number - 1] = value
    tail = () if rewrite.tail is None else (rewrite.tail,)
    return client.execute_command("EVAL", script.wrapper, len(keys), *words[0], *words[1], *tail)


def archive(client: redis.Redis, trim: str, policy: Policy | None, cap: int = 5) -> object:
    """Archive a task into an archive that has eight, one of them too old."""
    for number in range(7):
        put(client, f"x{number}", "archived", NOW - 100 + number)
    put(client, "old", "archived", NOW - 91 * DAY)
    client.hset(f"{PREFIX}a", mapping={"msg": encode_task("job:x", "a", "q"), "state": "active"})
    client.lpush(f"{QUEUE}active", "a")
    args = ["a", encode_task("job:x", "a", "q"), NOW, NOW - 90 * DAY, cap]
    return send(client, archive_script(trim), policy, ["t:a", "active", "archived"], list(args))


def archived(client: redis.Redis) -> list[bytes]:
    """Return the archive, the oldest first."""
    return [bytes(each) for each in client.zrange(f"{QUEUE}archived", 0, -1)]  # type: ignore[arg-type] # not scores


@each_trim
def test_each_way_of_trimming_is_understood_and_taken_over(server: Server, trim: str) -> None:
    """With Asynq's own times the archive is what it is without a sidecar, and no hash outlives its entry."""
    with server.client() as client:
        plain = archive(client, trim, None)
        expected = archived(client)
        client.flushall()
        assert archive(client, trim, DEFAULT_POLICY) == plain
        assert archived(client) == expected
        # By age one entry has gone, so eight are left for the trim by number.
        assert len(expected) == min(TRIMS[trim][1], 8)
        assert {key.decode() for key in client.scan_iter(f"{PREFIX}*")} == {PREFIX + each.decode() for each in expected}
        assert 0 < client.pttl(f"{PREFIX}a") <= (90 * DAY + GRACE) * 1000


@each_trim
@pytest.mark.parametrize("most", [2, 7])
def test_a_maximum_is_exact_whatever_the_script_s_own(server: Server, trim: str, most: int) -> None:
    """More than the script keeps, or less."""
    with server.client() as client:
        archive(client, trim, policy_of(Rule("all", archived=for_seconds(3600), archived_max=most)))
        assert len(archived(client)) == most
        assert archived(client)[-1] == b"a"


@pytest.mark.parametrize("cap", [0, -1])
def test_a_cap_of_none_is_none(server: Server, cap: int) -> None:
    """A script that says by a number below one that it does not trim keeps what is there."""
    with server.client() as client:
        archive(client, "if any", DEFAULT_POLICY, cap)
        assert len(archived(client)) == 8


def bounded(text: bytes, bound: bytes, removes: bytes) -> bytes:
    """Return a bulk script that takes only some tasks, and takes them off their source one by one."""
    some = text.replace(b'"ZRANGE", KEYS[1], 0, -1', b'"ZRANGE", KEYS[1], 0, ' + bound)
    start, _, end = some.rpartition(b"end\n")
    whole = b'redis.call("DEL", KEYS[1])'
    assert whole in end
    return start + removes + b" end\n" + end.replace(whole, b"1" if b"return redis" in end else b"")


TAKEN_OFF = b'  redis.call("ZREM", KEYS[1], name)'
# A bound by an ARGV, and one of the script's own.
each_bound = pytest.mark.parametrize("bound", [b"tonumber(ARGV[7]) - 1", b"2"])


@each_bound
def test_what_a_bounded_script_archives_gets_its_ttl(server: Server, bound: bytes) -> None:
    """That, and nothing else of its source."""
    policy = policy_of(Rule("all", archived=for_seconds(3600)))
    with server.client() as client:
        for number in range(5):
            put(client, f"r{number}", "retry", NOW + number)
        args = [NOW, NOW - 90 * DAY, 10_000, PREFIX, "", "", 3]
        send(client, bounded(ARCHIVE_ALL, bound, TAKEN_OFF), policy, ["retry", "archived"], list(args))
        assert archived(client) == [b"r0", b"r1", b"r2"]
        timed = [client.pttl(PREFIX + f"r{number}") > 0 for number in range(5)]
        assert timed == [True, True, True, False, False]


def with_ghosts(client: redis.Redis) -> None:
    """Fill an archive with six tasks that have TTLs, and a ghost before each, one of them of another life."""
    for number in range(6):
        put(client, f"t{number}", "archived", NOW + 2 * number + 1)
        client.expire(f"{PREFIX}t{number}", 1000)
        client.zadd(f"{QUEUE}archived", {f"g{number}": NOW + 2 * number})
    client.hset(f"{PREFIX}g1", mapping={"msg": "m", "state": "retry"})


@each_bound
def test_what_a_bounded_script_runs_again_lives_without_a_ttl(server: Server, bound: bytes) -> None:
    """It takes as many tasks as it would of an archive without ghosts, and no ghost comes to life."""
    with server.client() as client:
        with_ghosts(client)
        args = [PREFIX, "", "", "", "", "", 3]
        send(client, bounded(RUN_ALL, bound, TAKEN_OFF), DEFAULT_POLICY, ["archived", "pending"], list(args))
        assert client.lrange(f"{QUEUE}pending", 0, -1) == [b"t2", b"t1", b"t0"]
        assert [client.pttl(f"{PREFIX}t{number}") for number in range(3)] == [-1] * 3
        assert all(client.pttl(f"{PREFIX}t{number}") > 0 for number in range(3, 6))
        assert client.hget(f"{PREFIX}g1", "state") == b"retry"
        assert not client.exists(f"{PREFIX}g0")


@each_bound
def test_what_a_bounded_script_deletes_is_of_its_index(server: Server, bound: bytes) -> None:
    """No hash of another life of an ID goes."""
    with server.client() as client:
        with_ghosts(client)
        args = [PREFIX, "", "", "", "", "", 3]
        send(client, bounded(DELETE_ALL, bound, TAKEN_OFF), DEFAULT_POLICY, ["archived"], list(args))
        assert client.hget(f"{PREFIX}g1", "state") == b"retry"
        assert [client.exists(f"{PREFIX}t{number}") for number in range(6)] == [0, 0, 0, 1, 1, 1]
