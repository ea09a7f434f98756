"""The names of all queues of a cluster, from the node that has them."""

from typing import Any, cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as LostConnection

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.sidecar.queue_names import QueueNames
from asynq_ttl.upstream.cluster import Cluster, Company, Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.cluster.topology import ClusterNode, View

SLOT = slot_of(b"asynq:queues")


class Server(Endpoint):
    """A node that has the names, or raises."""

    def __init__(self, *names: bytes) -> None:
        super().__init__(parse_upstream("redis://127.0.0.1:1"))
        self.names: set[bytes] | Exception = set(names)
        self.closed = 0

    def redis(self, database: int | None = None, **options: Any) -> Redis:
        """Return itself."""
        return cast("Redis", self)

    async def smembers(self, key: str) -> set[bytes]:
        """Return the names."""
        assert key == "asynq:queues"
        if isinstance(self.names, Exception):
            raise self.names
        return self.names

    async def aclose(self) -> None:
        """Count."""
        self.closed += 1


def cluster(*servers: Server) -> Cluster:
    """Return a cluster, of which nothing is known yet but who its members are."""
    found = Cluster(Endpoint(parse_upstream("redis+cluster://127.0.0.1:1")), cast("Company", None))
    for number, server in enumerate(servers):
        name = str(number)
        found.members[name] = Member(name, server, ScriptRegistry(), cast("ControlConnection", None))
    return found


def at(number: int) -> View:
    """Return the view in which a node has the names."""
    return View((ClusterNode(str(number), "h", 1, slots=((SLOT, SLOT),)), ClusterNode("x", "h", 1, slots=((1, 1),))))


async def test_the_node_that_has_them_is_asked() -> None:
    """Another one where they have moved."""
    one, two = Server(b"mail"), Server(b"mail", b"news")
    found = cluster(one, two)
    names = QueueNames(found)
    found.view = at(0)
    assert await names.names() == await names.names() == {"mail"}
    assert one.closed == 0
    found.view = at(1)
    assert await names.names() == {"mail", "news"}
    assert one.closed == 1
    await names.close()
    await names.close()
    assert two.closed == 1


async def test_where_it_cannot_be_asked_the_names_are_those_of_before() -> None:
    """What sweeps the other nodes goes on."""
    one = Server(b"mail")
    found = cluster(one)
    names = QueueNames(found)
    with pytest.raises(OSError, match="no node serves"):
        await names.names()
    found.view = at(0)
    one.names = LostConnection()
    with pytest.raises(LostConnection):
        await names.names()
    one.names = {b"mail"}
    assert await names.names() == {"mail"}
    one.names = LostConnection()
    assert await names.names() == {"mail"}
    found.view = at(7)
    assert await names.names() == {"mail"}
