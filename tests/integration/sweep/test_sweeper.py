"""What is due goes from index and keyspace together; what others left behind is healed; nothing else is touched."""

import time
from typing import Any

import pytest
from redis import Redis, ResponseError

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.net.address import parse_upstream
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Keep, Policy, Retention, Rule
from asynq_ttl.sweep.lock import LOCK_KEY
from asynq_ttl.sweep.schedule import PAGE_SIZE
from asynq_ttl.sweep.sweeper import Sweeper
from asynq_ttl.upstream.endpoint import Endpoint
from support.asynq import Harness
from support.servers import Server, SidecarFactory, wait_until

POLICY = """
version: 1
grace: 30s
rules:
  - {name: forever, match: {type: "precious:*"}, archived: {ttl: forever}}
  - {name: slow, match: {type: "slow:*"}, archived: {ttl: 1h}, completed: {ttl: 1h}}
  - {name: quick, archived: {ttl: 2s}, completed: {ttl: 2s}}
"""
SLOW = POLICY.replace("2s", "2h")
QUICK = {"sweep_interval": "0.2"}


class Deaf:
    """Somebody to tell what is swept, who does not mind."""

    def swept(self, page: Swept) -> None:
        """Pass over a page."""

    def adopted(self, tasks: Adopted) -> None:
        """Pass over adopted tasks."""

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Pass over a repair."""

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Pass over a round."""


def put(client: "Redis", name: str, state: str, index: str | None, *, ttl: int = 0, score: float = 0) -> None:
    """Put a task into Redis as it would stand there."""
    client.hset(f"asynq:{{default}}:t:{name}", mapping={"msg": "\n\x01x", "state": state})
    if ttl:
        client.expire(f"asynq:{{default}}:t:{name}", ttl)
    if index is not None:
        client.zadd(f"asynq:{{default}}:{index}", {name: score or time.time()})
    client.sadd("asynq:queues", "default")


def wait_for_work(client: "Redis", queue: str = "default") -> None:
    """Let a task wait in a queue, so that there is something to sweep."""
    client.sadd("asynq:queues", queue)
    client.hset(f"asynq:{{{queue}}}:t:waiting", mapping={"msg": "\n\x01x", "state": "pending"})
    client.rpush(f"asynq:{{{queue}}}:pending", "waiting")


def members(client: "Redis", index: str) -> set[str]:
    """Return the IDs in an index."""
    found: Any = client.zrange(f"asynq:{{default}}:{index}", 0, -1)
    return {name.decode() for name in found}


def test_due_tasks_leave_index_and_keyspace_together(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """After its retention a task is gone from both, with its lock, and at no moment from only one of them."""
    sidecar = start_sidecar(server.url, POLICY, **QUICK)
    harness.enqueue(
        sidecar.address,
        {"id": "dead", "type": "x", "payload": '{"do": "skip"}', "unique": "1h"},
        {"id": "done", "type": "x", "retention": "1h"},
        {"id": "slow", "type": "slow:x", "payload": '{"do": "skip"}'},
        {"id": "kept", "type": "precious:x", "payload": '{"do": "skip"}'},
    )
    harness.work(sidecar.address)
    with server.client() as client:

        def consistent() -> set[str]:
            """Read keys and indexes in one step; return the IDs, which must be the same in both."""
            found = client.eval(
                "return {redis.call('KEYS', 'asynq:{default}:t:*'), redis.call('ZRANGE', KEYS[1], 0, -1), "
                "redis.call('ZRANGE', KEYS[2], 0, -1)}",
                2,
                "asynq:{default}:archived",
                "asynq:{default}:completed",
            )
            keys = {key.decode().rpartition(":")[2] for key in found[0]}
            assert keys == {name.decode() for name in found[1] + found[2]}
            return keys

        assert consistent() >= {"slow", "kept"}
        wait_until(lambda: consistent() == {"slow", "kept"}, "what is due is not removed", 25)
        assert client.keys("asynq:{default}:unique:*") == []
    info = harness.inspect(sidecar.address, {"op": "queue_info", "queue": "default"})[0]
    assert info["archived"] == 2


def test_a_grace_shorter_than_the_interval_is_swept_in_time(
    server: Server, harness: Harness, start_sidecar: SidecarFactory
) -> None:
    """However short the grace, the rounds are as often: no TTL fires before the sweeper has come."""
    sidecar = start_sidecar(
        server.url, "version: 1\ngrace: 2s\nrules: [{name: all, archived: {ttl: 1s}, completed: {ttl: 2s}}]"
    )
    tasks = [{"id": f"dead-{number}", "type": "x", "payload": '{"do": "skip"}'} for number in range(20)]
    harness.enqueue(sidecar.address, *tasks, *({"id": f"done-{n}", "type": "x", "retention": "1h"} for n in range(20)))
    harness.work(sidecar.address)
    with server.client() as client:

        def left() -> int:
            """Count the entries; each has its task."""
            found: Any = client.eval(
                "local n = 0 for _, key in ipairs(KEYS) do for _, id in ipairs(redis.call('ZRANGE', key, 0, -1)) do "
                "if redis.call('EXISTS', ARGV[1] .. id) == 0 then return -1 end n = n + 1 end end return n",
                2,
                "asynq:{default}:archived",
                "asynq:{default}:completed",
                "asynq:{default}:t:",
            )
            assert found >= 0, "an entry has outlived its task"
            return int(found)

        wait_until(lambda: left() == 0, "what is due is not removed")


def test_ghosts_are_dropped_and_live_tasks_are_not(server: Server, start_sidecar: SidecarFactory) -> None:
    """An entry whose hash is gone, or lives on in another state, leaves the index; the live task stays."""
    with server.client() as client:
        put(client, "archived", "archived", "archived", ttl=5000)
        put(client, "untimed", "archived", "archived", score=1)
        put(client, "reborn", "pending", "archived", score=1)
        put(client, "reborn-too", "active", "completed", score=1)
        client.zadd("asynq:{default}:archived", {"ghost": 1})
        client.zadd("asynq:{default}:completed", {"ghost": 1, "archived": 2e10})
        start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: members(client, "archived") == {"archived", "untimed"}, "ghosts stay in archived")
        wait_until(lambda: members(client, "completed") == set(), "ghosts stay in completed")
        assert client.exists(*(f"asynq:{{default}}:t:{name}" for name in ("archived", "untimed", "reborn"))) == 3
        assert client.hget("asynq:{default}:t:reborn-too", "state") == b"active"


def test_a_large_backlog_is_removed_in_pages(server: Server, start_sidecar: SidecarFactory) -> None:
    """Thousands of tasks that became due while no sidecar ran are gone after a few rounds."""
    count = PAGE_SIZE * 7 + 13
    with server.client() as client:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(count):
                put(pipeline, f"due-{number}", "archived", "archived", ttl=29, score=number + 1)
            pipeline.execute()
        put(client, "not-due", "archived", "archived", ttl=5000, score=1)
        start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: members(client, "archived") == {"not-due"}, "the backlog is not removed", 20)
        assert len(client.keys("asynq:{default}:t:*")) == 1


def test_every_database_that_clients_use_is_swept(server: Server, start_sidecar: SidecarFactory) -> None:
    """A database is swept once a client has selected it, or if the URL names it; one that there is not does no harm."""
    clients = [server.client(database) for database in (1, 4, 7)]
    for client in clients:
        put(client, "due", "archived", "archived", ttl=20)
    sidecar = start_sidecar(server.url.replace("/0", "/1"), SLOW, **QUICK)
    with sidecar.client(4) as through, sidecar.client(999) as nowhere:
        through.ping()
        with pytest.raises(ResponseError, match="out of range"):
            nowhere.ping()
        wait_until(lambda: not members(clients[0], "archived"), "the URL's database is not swept")
        wait_until(lambda: not members(clients[1], "archived"), "a selected database is not swept")
    assert members(clients[2], "archived") == {"due"}
    for client in clients:
        client.close()


def test_one_sidecar_sweeps_and_another_takes_over(server: Server, start_sidecar: SidecarFactory) -> None:
    """While one holds the lock the other waits; when the first stops, the second sweeps."""
    with server.client() as client:
        wait_for_work(client)
        first = start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: client.get(LOCK_KEY), "nobody takes the lock")
        holder = client.get(LOCK_KEY)
        second = start_sidecar(server.url, SLOW, **QUICK)
        time.sleep(1)
        assert client.get(LOCK_KEY) == holder
        assert 0 < client.pttl(LOCK_KEY) <= 5000
        first.stop()
        wait_until(lambda: client.get(LOCK_KEY) not in (None, holder), "nobody takes over")
        put(client, "due", "archived", "archived", ttl=20)
        wait_until(lambda: not members(client, "archived"), "the second does not sweep")
        second.stop()
        assert client.get(LOCK_KEY) is None


def test_sidecars_with_other_policies_sweep_beside_each_other(server: Server, start_sidecar: SidecarFactory) -> None:
    """What one does not know of, another sweeps; two with the same policy take turns."""
    policy = "version: 1\nrules: [{name: a, match: {queue: QUEUE}, archived: {ttl: 1h}}]"
    with server.client() as client:
        wait_for_work(client, "elsewhere")
        start_sidecar(server.url, policy.replace("QUEUE", "elsewhere"), **QUICK)
        wait_until(lambda: client.get(LOCK_KEY), "nobody takes the lock")
        holder = client.get(LOCK_KEY)
        for _ in range(2):
            start_sidecar(server.url, policy.replace("QUEUE", "default"), **QUICK)
        wait_for_work(client)
        put(client, "due", "archived", "archived", ttl=20)
        wait_until(lambda: not members(client, "archived"), "the others do not sweep")
        assert client.get(LOCK_KEY) == holder
        locks: Any = client.keys(f"{LOCK_KEY}*")
        assert len(locks) == 2
        assert all(0 < client.pttl(lock) <= 5000 for lock in locks)


def test_another_grace_removes_nothing_early(server: Server, start_sidecar: SidecarFactory) -> None:
    """A TTL may have been given with a shorter grace than the one in force: scores say whether its time is over."""
    sidecar = start_sidecar(server.url, SLOW.replace("30s", "1h"), **QUICK)
    now = time.time()
    with server.client() as client:
        for index, age in (("archived", -1), ("completed", 1)):
            put(client, f"{index}-fresh", index, index, ttl=1830, score=now + 1800 if age > 0 else now - 5400)
            put(client, f"{index}-over", index, index, ttl=600, score=now - 10 if age > 0 else now - 7210)
            put(client, f"{index}-odd", index, index, ttl=600, score=now + 9000 if age > 0 else now - 900)
            put(client, f"{index}-ends", index, index, ttl=50, score=now + 9000 if age > 0 else now)
        wait_until(lambda: not members(client, "completed") & {"completed-over", "completed-odd"}, "nothing is swept")
        left = {"archived-fresh", "archived-odd"}
        wait_until(lambda: members(client, "archived") == left, "the archive is not swept")
        assert members(client, "completed") == {"completed-fresh"}
        sidecar.reload(SLOW.replace("30s", "50m"))
        time.sleep(1)
        assert members(client, "archived") == left
        assert members(client, "completed") == {"completed-fresh"}


def test_a_state_that_is_not_known_is_no_ghost(server: Server, start_sidecar: SidecarFactory) -> None:
    """Should Asynq rename a state, its tasks stay in their index."""
    with server.client() as client:
        put(client, "renamed", "dead", "archived", score=1)
        put(client, "renamed-due", "done", "completed", ttl=20, score=1)
        put(client, "reborn", "pending", "archived", score=1)
        start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: "reborn" not in members(client, "archived"), "the ghost stays")
        assert members(client, "archived") == {"renamed"}
        assert members(client, "completed") == {"renamed-due"}


async def test_the_way_through_a_large_index_takes_no_longer_than_the_grace(server: Server) -> None:
    """Scores say nothing of retentions that are not in force any more: what is due by them is found in time even so."""
    count = PAGE_SIZE * 20
    week = Policy((Rule("week", archived=Retention(Keep.TTL, 604_800)),), grace_seconds=10)
    sweeper = Sweeper(Endpoint(parse_upstream(server.url)), lambda: Reach(week, set()), {0}, Deaf(), interval_seconds=5)
    with server.client() as client:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(count):
                key = f"asynq:{{default}}:t:{number:05}"
                pipeline.hset(key, mapping={"msg": "\n\x01x", "state": "archived"})
                pipeline.expire(key, 5 if number == count - 1 else 5000)
                pipeline.zadd("asynq:{default}:archived", {f"{number:05}": time.time() - 900})
            pipeline.sadd("asynq:queues", "default")
            pipeline.execute()
        rounds = 0
        while client.zcard("asynq:{default}:archived") == count:
            # However slow the machine: it has 5 seconds left in each round, and counts the rounds.
            client.expire(f"asynq:{{default}}:t:{count - 1:05}", 5)
            await sweeper.sweep()
            rounds += 1
        assert rounds * sweeper.interval_seconds <= week.grace_seconds
        assert client.zcard("asynq:{default}:archived") == count - 1
    await sweeper.close()


@pytest.mark.parametrize("mode", ["shadow", "off"])
def test_nothing_is_swept_in_shadow_and_off(server: Server, start_sidecar: SidecarFactory, mode: str) -> None:
    """Where nothing is enforced nothing is removed, and no lock is taken."""
    with server.client() as client:
        put(client, "due", "archived", "archived", ttl=20)
        start_sidecar(server.url, SLOW.replace("version: 1", f"version: 1\nmode: {mode}"), **QUICK)
        time.sleep(1.5)
        assert members(client, "archived") == {"due"}
        assert client.get(LOCK_KEY) is None


def test_queues_that_no_rule_matches_are_not_swept(server: Server, start_sidecar: SidecarFactory) -> None:
    """Another queue's ghosts are somebody else's."""
    with server.client() as client:
        put(client, "due", "archived", "archived", ttl=20)
        start_sidecar(server.url, "version: 1\nrules: [{name: a, match: {queue: b}, archived: {ttl: 1h}}]", **QUICK)
        time.sleep(1.5)
        assert members(client, "archived") == {"due"}


def test_sweeping_survives_a_restart_of_redis(server: Server, start_sidecar: SidecarFactory) -> None:
    """A round that fails is told and done again later."""
    with server.client() as client:
        wait_for_work(client)
        sidecar = start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: client.get(LOCK_KEY), "nobody takes the lock")
        sidecar.expected_warnings += ["sweeping failed", "is down"]
        client.script_flush()
        client.client_kill_filter(_type="normal", skipme=True)
        put(client, "due", "archived", "archived", ttl=20)
        wait_until(lambda: not members(client, "archived"), "it does not sweep any more")


@pytest.mark.parametrize("full", [False, True])
def test_a_key_of_the_wrong_type_or_a_full_redis_does_not_stop_the_rest(
    server: Server, start_sidecar: SidecarFactory, full: bool
) -> None:
    """Every other queue is swept and repaired in the same round, and every other task of the same index."""
    places = ("completed", "archived", "active", "lease", "deadlines", "pending", "retry")
    with server.client() as client:
        for place in places:
            queue = f"a-{place}"
            client.sadd("asynq:queues", queue)
            client.set(f"asynq:{{{queue}}}:{place}", "x")
        for ttl, name in ((1, "due"), (20, "odd"), (20, "later")):
            put(client, name, "archived", "archived", ttl=ttl, score=time.time() - 60)
        client.delete("asynq:{default}:t:odd")
        client.rpush("asynq:{default}:t:odd", "x")
        client.expire("asynq:{default}:t:odd", 20)
        put(client, "live", "active", None, ttl=600)
        client.hset("asynq:{default}:t:live", "state", "active")
        client.rpush("asynq:{default}:active", "odd", "live")
        put(client, "again", "pending", None, ttl=600)
        client.rpush("asynq:{default}:pending", "odd", "again")
        client.persist("asynq:{default}:t:due")
        client.expire("asynq:{default}:t:due", 25)
        try:
            if full:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", 1)
            sidecar = start_sidecar(server.url, POLICY, **QUICK)
            sidecar.expected_warnings.append("cannot be swept, the rest is: ")
            wait_until(lambda: members(client, "archived") == {"odd"}, "the healthy tasks are not swept", 20)
            wait_until(lambda: client.ttl("asynq:{default}:t:live") == -1, "active tasks are not repaired")
            wait_until(lambda: client.ttl("asynq:{default}:t:again") == -1, "waiting tasks are not repaired")
        finally:
            client.config_set("maxmemory", 0)


@pytest.mark.parametrize("leads", [True, False])
def test_a_queue_that_is_not_listed_is_swept_by_the_sidecar_that_gave_its_tasks_ttls(
    server: Server, harness: Harness, start_sidecar: SidecarFactory, leads: bool
) -> None:
    """Also where another sidecar has the lock, which knows nothing of the queue; in every database."""
    with server.client() as client:
        if not leads:
            wait_for_work(client, "elsewhere")
            start_sidecar(server.url, POLICY, **QUICK)
            wait_until(lambda: client.get(LOCK_KEY), "nobody takes the lock")
        sidecar = start_sidecar(server.url, POLICY, **QUICK)
        harness.enqueue(sidecar.address, {"id": "dead", "type": "x", "payload": '{"do": "skip"}'})
        harness.work(sidecar.address)
        client.srem("asynq:queues", "default")
        client.sadd("asynq:queues", *(f"task-{number}" for number in range(3_000)))
        wait_until(lambda: not members(client, "archived"), "the queue is not swept", 25)
        assert not client.exists("asynq:{default}:t:dead")


def test_where_there_is_nothing_to_sweep_no_key_is_written(server: Server, start_sidecar: SidecarFactory) -> None:
    """Nor is a connection kept for each database that clients have selected."""
    with server.client() as client:
        client.sadd("asynq:queues", "name-without-keys")
        sidecar = start_sidecar(server.url, SLOW, **QUICK)
        for database in range(12):
            with sidecar.client(database) as through:
                through.ping()
        wait_until(lambda: sweepers(client), "the sweeper does not connect")
        for _ in range(60):
            time.sleep(0.05)
            assert len(sweepers(client)) <= 3
            assert client.keys("asynq-ttl*") == []
        put(client, "due", "archived", "archived", ttl=20)
        wait_until(lambda: not members(client, "archived"), "it does not sweep any more")
        wait_until(lambda: not client.exists(LOCK_KEY), "the lock is not given back")


def sweepers(client: "Redis") -> list[Any]:
    """Return the sweeper's connections."""
    found: Any = client.client_list()
    return [connection for connection in found if connection["name"] == "asynq-ttl-sweeper"]


def test_locks_of_the_wrong_type_do_not_stop_the_sweeper(server: Server, start_sidecar: SidecarFactory) -> None:
    """It sweeps without one, and says that it does."""
    with server.client() as client:
        client.rpush(LOCK_KEY, "x")
        put(client, "due", "archived", "archived", ttl=20)
        wait_for_work(client)
        sidecar = start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: not members(client, "archived"), "nothing is swept")
        for key in client.keys(f"{LOCK_KEY}:*"):
            client.delete(key)
            client.rpush(key, "x")
        put(client, "due", "archived", "archived", ttl=20)
        wait_until(lambda: not members(client, "archived"), "nothing is swept without a lock")
        assert sidecar.stop() == 0


def test_a_lease_of_the_wrong_type_stops_no_repair(server: Server, start_sidecar: SidecarFactory) -> None:
    """Tasks that are active lose their TTLs; an ID of which no lease can be known stays."""
    with server.client() as client:
        put(client, "live", "active", None, ttl=600)
        client.rpush("asynq:{default}:active", "gone", "live")
        client.set("asynq:{default}:lease", "x")
        start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: client.ttl("asynq:{default}:t:live") == -1, "it is not repaired")
        assert client.lrange("asynq:{default}:active", 0, -1) == [b"gone", b"live"]


def test_one_odd_task_in_each_of_many_queues_is_found_by_the_survey(
    server: Server, start_sidecar: SidecarFactory
) -> None:
    """A ghost, a task by another policy and a TTL on a live task: within seconds, in each of 300 queues."""
    count = 300
    with server.client() as client:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(count):
                start = f"asynq:{{q{number}}}:"
                pipeline.sadd("asynq:queues", f"q{number}")
                pipeline.hset(f"{start}t:odd", mapping={"msg": "\n\x01x", "state": "archived"})
                pipeline.expire(f"{start}t:odd", 25)
                pipeline.zadd(f"{start}archived", {"odd": time.time() - 900})
                pipeline.hset(f"{start}t:live", mapping={"msg": "\n\x01x", "state": "pending"})
                pipeline.expire(f"{start}t:live", 25)
                pipeline.rpush(f"{start}pending", "live")
            pipeline.execute()
        start_sidecar(server.url, SLOW, **QUICK)
        wait_until(lambda: not client.keys("asynq:{*}:archived"), "tasks by another policy stay", 20)
        wait_until(lambda: all(client.ttl(f"asynq:{{q{number}}}:t:live") == -1 for number in range(count)), "TTLs stay")
