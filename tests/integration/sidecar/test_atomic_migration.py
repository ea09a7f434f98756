"""Valkey's atomic migration of slots (`CLUSTER MIGRATESLOTS`) under load, through both ways and with a sweeper.

Nobody is sent on by ASK then: the source serves its slots until all of them are the target's, and says MOVED.
"""

from typing import Any

import pytest
from redis.cluster import ClusterNode, RedisCluster

from support.cluster import Kind, metrics, serve_cluster, start_cluster
from support.load import under_load
from support.servers import SidecarFactory, connect, wait_until

POLICY = "version: 1\ngrace: 30s\nrules: [{name: all, archived: {ttl: 1h}}]"
PLACES = range(12)
ARCHIVE = """
redis.call('INCR', KEYS[1])
redis.call('ZADD', KEYS[3], 4000000000, ARGV[1])
return redis.call('HSET', KEYS[2], 'state', 'archived', 'msg', 'm')
"""


@pytest.mark.timeout(240)
def test_slots_move_at_once(start_sidecar: SidecarFactory) -> None:
    """No command fails, none is lost or executed twice, and no entry of a task that is there is dropped."""
    with start_cluster(Kind("valkey", password="sesame")) as cluster:
        sidecar = serve_cluster(start_sidecar, cluster, POLICY, sweep_interval="0.2")
        # The key of a master's lock may have moved; and the cluster ends before the sidecar.
        sidecar.expected_warnings += ["sweeping failed", "is down", "cannot be swept"]
        plain = connect(port=sidecar.port, socket_timeout=60)
        aware = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", sidecar.port)])
        done = [0, 0]

        def work(number: int) -> None:
            for place in PLACES:
                queue, name = f"asynq:{{q{place}}}:", f"{number}-{done[number]}"
                keys = f"{queue}count{number}", f"{queue}t:{name}", f"{queue}archived"
                (plain, aware)[number].eval(ARCHIVE, len(keys), *keys, name)
            done[number] += 1

        plain.sadd("asynq:queues", *(f"q{place}" for place in PLACES))
        with under_load(work, threads=2) as wrong:
            wait_until(lambda: min(done) > 1, "no load")
            for number, source in enumerate(cluster.nodes):
                assert source.slots is not None
                first, last = source.slots
                # Without any slot it would become a replica.
                cluster.move_slots_at_once(first + 1, last, source, cluster.nodes[(number + 1) % 3])
            before = min(done)
            wait_until(lambda: min(done) > before + 1, "no load after it")
        assert "cannot be swept" not in sidecar.log()
        assert wrong == []
        for place in PLACES:
            queue = f"asynq:{{q{place}}}:"
            assert [int(plain.execute_command("GET", f"{queue}count{number}")) for number in (0, 1)] == done
            named: Any = plain.zrange(f"{queue}archived", 0, -1)
            assert len(named) == sum(done)
            assert plain.exists(*(f"{queue}t:{name.decode()}" for name in named)) == sum(done)
        assert "asynq_ttl_sweep_ghosts_total{" not in metrics(sidecar)
        plain.close()
        aware.close()
