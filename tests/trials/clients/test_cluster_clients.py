"""Cluster clients of JavaScript and Java through the ports of nodes; redis-py's is an integration test.

A program is told a line of words, and answers with a line of JSON:

| words | what it does | answer |
| --- | --- | --- |
| `ports` | | the ports of all nodes that it knows |
| `set VALUE KEY…` | SET at each master | the replies |
| `get KEY…`, `lengths KEY…` | GET, STRLEN at each replica, in pipelines | the values, the lengths |
| `add KEY…` | a script by EVALSHA that adds 2 | the keys and their values |
| `tell CHANNEL…` | SSUBSCRIBE, then SPUBLISH | the messages that came |

Only the sidecar knows the password of the cluster, so whoever goes past it is refused.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from asynq_ttl.wire.cluster.slots import slot_of
from support.cluster import Cluster, Kind, node_ports, serve_cluster, start_cluster
from support.servers import Sidecar, SidecarFactory, wait_until
from trials.clients import programs

pytestmark = [pytest.mark.suite, pytest.mark.timeout(600)]  # a first build takes a minute

POLICY = "version: 1\nrules: [{name: all, archived: {ttl: 1h}, completed: {ttl: 2h}}]"
KEYS = tuple(f"key{number}" for number in range(60))
Say = Callable[..., Any]
"""Tells a program the words of a line, and returns its answer."""


@pytest.fixture(scope="module", params=["path-redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Three masters with a replica each."""
    with start_cluster(Kind(request.param, replicas=1, password="sesame")) as cluster:
        yield cluster


@contextmanager
def conversation(command: list[str], sidecar: Sidecar, protocol: int) -> Iterator[Say]:
    """Run a program."""
    line = [*command, "127.0.0.1", str(sidecar.port), str(protocol)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def say(*words: str) -> Any:
            print(*words, file=program.stdin, flush=True)
            return json.loads(program.stdout.readline())  # type: ignore[union-attr] # it is not None

        try:
            yield say
            program.stdin.close()
            assert program.wait(60) == 0
        finally:
            program.kill()


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("client", [programs.ioredis, programs.lettuce], ids=lambda client: client.__name__)
def test_a_conversation(
    cluster: Cluster, start_sidecar: SidecarFactory, client: Callable[[], list[str]], protocol: int
) -> None:
    """Writes go to masters, reads to replicas, scripts and messages to their shard; a slot that moves is followed."""
    command = client()
    sidecar = serve_cluster(start_sidecar, cluster, POLICY)
    read = cluster.commands("get", replicas=True)
    with conversation(command, sidecar, protocol) as say:
        assert say("ports") == sorted(node_ports(sidecar).values())

        def are(value: str, *keys: str) -> bool:
            return bool(say("get", *keys) == [value] * len(keys))

        value = f"{client.__name__}{protocol}"
        assert say("set", value, *KEYS) == ["OK"] * len(KEYS)
        wait_until(lambda: are(value, *KEYS), "replicas do not follow")
        assert cluster.commands("get", replicas=True) >= read + len(KEYS)
        assert say("lengths", *KEYS) == [len(value)] * len(KEYS)
        counters = [f"{value}-{key}" for key in KEYS]
        assert say("add", *counters) == [[key, 2] for key in counters]
        assert say("tell", *KEYS[:6]) == [f"to {key}" for key in KEYS[:6]]

        moving, slot = KEYS[0], slot_of(KEYS[0].encode())
        source = cluster.owner(moving)
        target = next(node for node in cluster.nodes if node.slots and node is not source)
        cluster.move_slot(slot, source, target)
        assert say("set", "moved", moving) == ["OK"]
        with cluster.client(target) as direct:
            assert direct.get(moving) == b"moved"
        assert say("add", counters[0]) == [[counters[0], 4]]
        wait_until(lambda: are("moved", moving), "the replicas of the new master do not follow")
    cluster.move_slot(slot, target, source)
