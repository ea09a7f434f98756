"""The masters of a cluster, as one run of a tool uses them: found once, at its beginning.

Invariants:

* Nobody is believed about the cluster who does not see most of its masters; of those who do, the newest is.
* A slot counts as settled only if the cluster and the master itself say that it is the master's, and the master does
  not say that it is on its way. What is not settled is not touched.
* A master that has failed once is not asked any more: what a run says of it is one thing.
"""

from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import (
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - redis-py's
)

from asynq_ttl.asynq.keys import text_of
from asynq_ttl.existing_keys.clients import DatabaseError, node_client
from asynq_ttl.existing_keys.cluster.walk import Slots, ranges_of
from asynq_ttl.existing_keys.script_runs import ScriptRuns
from asynq_ttl.net.address import Address, Upstream
from asynq_ttl.wire.cluster.slots import SLOTS
from asynq_ttl.wire.cluster.topology import ClusterNode, NoTopologyError, View, parse_nodes, preferred_endpoints

# How long a node may take to say which nodes there are: any other can say it too.
_VIEW_SECONDS = 5.0

GIVEN_UP = (ConnectionError, TimeoutError, ClusterDownError, MasterDownError, ReadOnlyError)
"""What a master that cannot be read raises."""


class Master:
    """One master.

    Args:
        node: what the cluster says of it.
        address: where it is.
        client: a client of it.
    """

    def __init__(self, node: ClusterNode, address: Address, client: Redis) -> None:
        self.id = node.id
        self.address = address
        self.client = client
        self.scripts = ScriptRuns(client)
        self.slots: Slots = _slots(node)
        """The slots that are its own, as the cluster says."""
        self.settled: Slots = frozenset()
        """Those of them that are nowhere else, and not on their way."""
        self.run = ""
        """The ID of its server's run; empty where that is not told."""
        self.fault = ""
        """Why it is not asked any more; empty while it is."""

    def __str__(self) -> str:
        return f"node {self.address}"

    def look(self) -> None:
        """Ask which slots are settled, and which run this is.

        Raises:
            RedisError: it cannot be asked.
            NoTopologyError: it answers something else.
        """
        view = _view(self.client)
        mine = [node for node in view.nodes if "myself" in node.flags]
        own = frozenset(slot for node in mine for slot in _slots(node) - node.moving)
        self.settled = self.slots & own
        try:
            self.run = str(self.client.info("server").get("run_id", ""))
        except ResponseError:
            self.run = ""

    def give_up(self, error: Exception) -> None:
        """Ask it nothing any more."""
        self.fault = " ".join(str(error).split()) or type(error).__name__


class Masters:
    """The masters of a cluster.

    Args:
        upstream: names the nodes that are asked first.
        failed: told of each master that cannot be read, in words.
    """

    def __init__(self, upstream: Upstream, failed: Callable[[str], None]) -> None:
        self.view = View(())
        """The cluster, as it is believed to be."""
        self.all: list[Master] = []
        """Those that serve slots, by their IDs."""
        self._upstream = upstream
        self._failed = failed
        self._owners: dict[int, Master] = {}
        self._endpoints: dict[str, tuple[str, int]] = {}
        self._source = upstream.address

    def find(self) -> None:
        """Find them, and ask each which slots are settled.

        Raises:
            DatabaseError: nobody can be believed.
        """
        self.view, self._source = self._believed()
        with node_client(self._upstream, self._source) as client:
            self._endpoints = _endpoints(client)
        nodes = sorted(self.view.masters(), key=lambda node: node.id)
        self.all = [
            Master(node, address, node_client(self._upstream, address)) for node, address in self._placed(nodes)
        ]
        for master in self.all:
            self._owners |= dict.fromkeys(master.slots, master)
            self.at(master, master.look)
        bare = ranges_of(slot for slot in range(SLOTS) if slot not in self._owners)
        if bare:
            self._failed(f"slots {bare}: no node serves them")

    def placed(self) -> list[tuple[ClusterNode, Address]]:
        """Return all nodes that can be connected to, replicas too, and where they are."""
        return self._placed(sorted((node for node in self.view.nodes if node.is_there), key=lambda node: node.id))

    def with_id(self, node_id: str) -> Master | None:
        """Return the master with an ID, if it can be read."""
        return next((master for master in self.readable() if master.id == node_id), None)

    def owner(self, slot: int) -> Master | None:
        """Return the master whose slot it is, whether or not it can be read; None where no node serves it."""
        return self._owners.get(slot)

    def readable(self) -> list[Master]:
        """Return those that have not failed."""
        return [master for master in self.all if not master.fault]

    def at(self, master: Master, work: Callable[[], Any]) -> Any:  # noqa: ANN401 - replies have any shape
        """Return what some work at a master returns; None where the master cannot be read, which is told once.

        Raises:
            RedisError: the master refuses it.
        """
        if master.fault:
            return None
        try:
            return work()
        except (*GIVEN_UP, NoTopologyError) as error:
            self.give_up(master, error)
            return None

    def give_up(self, master: Master, error: Exception) -> None:
        """Ask a master nothing any more, and tell of it."""
        if not master.fault:
            master.give_up(error)
            self._failed(f"{master}: {master.fault}")

    def close(self) -> None:
        """Close the connections."""
        for master in self.all:
            master.client.close()

    def _believed(self) -> tuple[View, Address]:
        """Ask the nodes of the URL; return what is believed, and who says it."""
        found: list[tuple[View, Address]] = []
        faults = []
        for address in self._upstream.nodes:
            try:
                with node_client(self._upstream, address, _VIEW_SECONDS) as client:
                    view = _view(client)
            except (RedisError, OSError, NoTopologyError) as error:
                faults.append(f"{address}: {' '.join(str(error).split()) or type(error).__name__}")
                continue
            if view.sees_most():
                found.append((view, address))
            else:
                faults.append(f"{address} does not see most of the masters")
        if not found:
            raise DatabaseError(f"{self._upstream} cannot be used: {'; '.join(faults)}")
        return max(found, key=lambda pair: pair[0].epoch)

    def _placed(self, nodes: list[ClusterNode]) -> list[tuple[ClusterNode, Address]]:
        """Return nodes, and where they are. One without an address is where the one that was asked is."""
        placed = []
        for node in nodes:
            host, port = self._endpoints.get(node.id, (node.host, node.port))
            placed.append((node, Address(host or self._source.host, port or node.port)))
        return placed


def _view(client: Redis) -> View:
    """Ask a node for its view; without what redis-py makes of the reply, which may be none of one's own."""
    client.response_callbacks.pop("CLUSTER NODES", None)
    return parse_nodes(text_of(client.execute_command("CLUSTER NODES")))


def _endpoints(client: Redis) -> dict[str, tuple[str, int]]:
    """Ask a node where clients are to connect; nothing where it does not say so."""
    client.response_callbacks.pop("CLUSTER SLOTS", None)
    try:
        return preferred_endpoints(client.execute_command("CLUSTER SLOTS"))
    except (RedisError, NoTopologyError):
        return {}


def _slots(node: ClusterNode) -> Slots:
    return frozenset(slot for first, last in node.slots for slot in range(first, last + 1))
