"""Real clusters: three or six nodes on this machine, up in about three seconds.

What nodes usually find out from each other stands in their configuration files from the beginning.
"""

import hashlib
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis as redis_py

from support.certificates import Authority
from support.servers import (
    Server,
    Sidecar,
    SidecarFactory,
    connect,
    free_node_port,
    free_port,
    free_ports,
    start_path_redis,
    start_redis,
    start_valkey,
    wait_until,
)
from support.slot_move import Move

SLOTS = 16_384
QUEUES = ("default", "low", "q4")
"""Queues, each at another of three masters."""
_BUS = 10_000
_START: dict[str, Callable[..., AbstractContextManager[Server]]] = {
    "redis": start_redis,
    "valkey": start_valkey,
    "path-redis": start_path_redis,
}
KINDS = tuple(_START)
"""Redis 6.2, Valkey 9.1, and the Redis of PATH, which is a 7.0."""


@dataclass(frozen=True, slots=True)
class Kind:
    """How the nodes of a cluster are set up.

    Attributes:
        server: which servers; one of `KINDS`.
        masters: how many masters.
        replicas: how many replicas each of them has, 0 or 1.
        host: where they listen and what they call themselves: 127.0.0.1 or ::1.
        password: theirs; empty for none.
        authority: who has issued the certificate with which they speak TLS; None for no TLS.
        options: more options of the servers.
    """

    server: str = "path-redis"
    masters: int = 3
    replicas: int = 0
    host: str = "127.0.0.1"
    password: str = ""
    authority: Authority | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a cluster.

    Attributes:
        id: its ID.
        port: its port; with TLS that of TLS.
        plain_port: the port without TLS.
        slots: the first and the last slot that it serves at the beginning; None for a replica.
        master: the ID of its master; empty for a master.
    """

    id: str
    port: int
    plain_port: int
    slots: tuple[int, int] | None = None
    master: str = ""

    def line(self, host: str, *, own: bool) -> str:
        """Return its line in a configuration file."""
        flags = ("myself," if own else "") + ("slave" if self.master else "master")
        slots = f" {self.slots[0]}-{self.slots[1]}" if self.slots else ""
        address = f"{host}:{self.port}@{self.port + _BUS}"
        return f"{self.id} {address} {flags} {self.master or '-'} 0 0 {self.epoch} connected{slots}"

    @property
    def epoch(self) -> int:
        """Its configuration epoch at the beginning."""
        return 1 + self.slots[0] // 100 if self.slots else 0


@dataclass(slots=True)
class Cluster:
    """A running cluster.

    Attributes:
        kind: how it is set up.
        nodes: its nodes, masters first.
        servers: their processes, by their ports.
        asking: what asks them, by their ports; it stays connected, as most is asked over and over.
    """

    kind: Kind
    nodes: list[Node]
    servers: dict[int, Server] = field(default_factory=dict)
    asking: dict[int, "redis_py.Redis"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The upstream's URL, with the cluster's password."""
        return self.url_of(f":{self.kind.password}@" if self.kind.password else "")

    def url_of(self, credentials: str = "", query: str = "") -> str:
        """Return the upstream's URL.

        Args:
            credentials: such as `user:password@`.
            query: parameters, with the `?`.
        """
        host = f"[{self.kind.host}]" if ":" in self.kind.host else self.kind.host
        nodes = ",".join(f"{host}:{node.port}" for node in self.nodes)
        return f"redis{'s' if self.kind.authority else ''}+cluster://{credentials}{nodes}{query}"

    def client(self, node: Node, **options: Any) -> "redis_py.Redis":
        """Return a client of one node, without TLS."""
        password = self.kind.password or None
        return connect(host=self.kind.host, port=node.plain_port, password=password, **options)

    def ask(self, node: Node, *words: object) -> Any:
        """Ask one node something; its answer as the node gives it."""
        client = self.asking.get(node.port)
        if client is None:
            client = self.asking[node.port] = self.client(node)
            client.response_callbacks.clear()
        return client.execute_command(*words)

    def ask_no_more(self) -> None:
        """Close the connections of `ask`."""
        for client in self.asking.values():
            client.close()

    def owner(self, key: str) -> Node:
        """Return the master that serves a key, as most nodes that live say."""
        said = []
        for node in self.alive():
            slot = self.ask(node, "CLUSTER", "KEYSLOT", key)
            for first, last, master, *_ in self.ask(node, "CLUSTER", "SLOTS"):
                if first <= slot <= last:
                    said.append(master[2].decode())
        most = max(said, key=said.count)
        return next(node for node in self.nodes if node.id == most)

    def commands(self, name: str, *, replicas: bool) -> int:
        """Return how many commands of a name the replicas, or the masters, have executed."""
        count = 0
        for node in self.nodes:
            if bool(node.master) is replicas:
                with self.client(node) as client:
                    found: Any = client.info("commandstats")
                    count += found.get(f"cmdstat_{name}", {"calls": 0})["calls"]
        return count

    def alive(self) -> list[Node]:
        """Return the nodes whose processes run."""
        return [node for node in self.nodes if self.servers[node.port].process.poll() is None]

    def kill(self, node: Node) -> None:
        """Kill a node."""
        self.servers[node.port].process.kill()
        self.servers[node.port].process.wait()

    @staticmethod
    def folder(node: Node) -> Path:
        """Return the folder in which a node keeps its files."""
        return _place(node)

    @contextmanager
    def return_of(self, node: Node) -> Iterator[None]:
        """Have a node that was killed back while the block runs: without its keys, unless it writes them down."""
        with _run(self.kind, node) as server:
            self.servers[node.port] = server
            yield

    def replica_of(self, master: Node) -> Node:
        """Return the replica that a master has at the beginning."""
        return next(node for node in self.nodes if node.master == master.id)

    def is_whole(self, *, nodes: int | None = None) -> bool:
        """Say whether all nodes that live find the cluster whole, and replicas have their masters."""
        for node in self.alive():
            try:
                said = self.ask(node, "CLUSTER", "INFO").decode().split()
                if "cluster_state:ok" not in said or f"cluster_slots_ok:{SLOTS}" not in said:
                    return False
                role = self.ask(node, "ROLE")
                if role[0] == b"slave" and role[3] != b"connected":
                    return False
            except redis_py.RedisError:
                return False
        return True

    def names_all(self) -> bool:
        """Say whether all nodes tell clients of all nodes: of a replica only once it has followed its master."""
        told = [self.ask(node, "CLUSTER", "SLOTS") for node in self.nodes]
        return all(sum(len(masters) - 2 for masters in said) == len(self.nodes) for said in told)

    def agree(self, slot: int, owner: Node) -> bool:
        """Say whether all nodes that live find the cluster whole, and a slot at one of them."""
        return self.is_whole() and all(
            any(first <= slot <= last and master[2].decode() == owner.id for first, last, master, *_ in said)
            for said in (self.ask(node, "CLUSTER", "SLOTS") for node in self.alive())
        )

    @contextmanager
    def with_another(self) -> Iterator[Node]:
        """Have one more master, without slots, while the block runs; it leaves as an operator lets it leave."""
        port = free_node_port()
        node = Node(hashlib.sha1(f"{port}".encode(), usedforsecurity=False).hexdigest(), port, port)
        others = self.alive()
        with _start(self.kind, node, [node]) as server:
            self.servers[port] = server
            self.nodes.append(node)
            self.ask(node, "CLUSTER", "MEET", self.kind.host, others[0].port)
            wait_until(lambda: all(self._knows(each, node) for each in others) and self.is_whole(), "it is not met", 40)
            yield node
            # Whoever has forgotten it must not hear of it from another one.
            for each in self.alive():
                if each is not node:
                    self.ask(each, "CLUSTER", "FORGET", node.id)
            self.nodes.remove(node)
        del self.servers[port]

    def _knows(self, node: Node, other: Node) -> bool:
        lines = self.ask(node, "CLUSTER", "NODES").decode().splitlines()
        return any(line.startswith(other.id) and "handshake" not in line for line in lines)

    def move_slot(self, slot: int, source: Node, target: Node) -> None:
        """Move a slot with its keys, as an operator does."""
        self.move_slots([slot], source, target)

    def move_slots(self, slots: Iterable[int], source: Node, target: Node, pause: float = 0.0) -> None:
        """Move slots with their keys, one after the other.

        Args:
            slots: which.
            source: where they are.
            target: where they go.
            pause: how long to wait after each hundred keys, in seconds.
        """
        with self.client(source) as giving, self.client(target) as taking:
            for slot in slots:
                with self._moving(slot, (source, giving), (target, taking)) as move:
                    while keys := move.keys(100):
                        move.take(keys)
                        time.sleep(pause)

    @contextmanager
    def moving(self, slot: int, source: Node, target: Node) -> Iterator[Move]:
        """Have a slot on its way while the block runs, which has to move its keys; then it belongs to the target."""
        with (
            self.client(source) as giving,
            self.client(target) as taking,
            self._moving(slot, (source, giving), (target, taking)) as move,
        ):
            yield move

    @contextmanager
    def _moving(
        self, slot: int, source: tuple[Node, "redis_py.Redis"], target: tuple[Node, "redis_py.Redis"]
    ) -> Iterator[Move]:
        (origin, giving), (goal, taking) = source, target
        taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", origin.id)
        giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", goal.id)
        yield Move(slot, giving, (self.kind.host, goal.plain_port), self.kind.password)
        taking.execute_command("CLUSTER SETSLOT", slot, "NODE", goal.id)
        with suppress(redis_py.ResponseError):  # with its last slot it becomes a replica, sometimes by itself
            giving.execute_command("CLUSTER SETSLOT", slot, "NODE", goal.id)

    def move_slots_at_once(self, first: int, last: int, source: Node, target: Node) -> None:
        """Move slots with their keys, as Valkey does from 9.0 on; again where it gives up."""

        def begin() -> None:
            self.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", target.id)

        def moved() -> bool:
            state = self.ask(source, "CLUSTER", "GETSLOTMIGRATIONS")[0][b"state"]  # the latest is the first
            if state == b"failed":
                begin()
            return bool(state == b"success")

        begin()
        wait_until(moved, "the slots are not moved")


def port_range(length: int) -> tuple[int, int]:
    """Return the first and the last of so many ports in a row that nothing listens at."""
    row = free_ports(length)
    return row[0], row[-1]


def serve_cluster(start: SidecarFactory, cluster: Cluster, policy: str, **options: str) -> Sidecar:
    """Start a sidecar in front of a cluster, with a port for each node and two more; clients need no password."""
    first, last = port_range(len(cluster.nodes) + 2)
    chosen = {"admin": f"127.0.0.1:{free_port()}", "cluster_ports": f"{first}-{last}"}
    if cluster.kind.password:
        chosen["client_auth"] = "none"
    return start(cluster.url, policy, **(chosen | options))


def node_ports(sidecar: Sidecar) -> dict[int, int]:
    """Return at which port of a sidecar each node is, by the node's own port."""
    return {int(node): int(port) for node, port in re.findall(r"node \S+:(\d+) is at port (\d+)", sidecar.log())}


def metrics(sidecar: Sidecar) -> str:
    """Return what the sidecar has counted."""
    with urllib.request.urlopen(f"http://{sidecar.admin}/metrics") as response:
        text: str = response.read().decode()
        return text


def metric(sidecar: Sidecar, name: str) -> float:
    """Return a metric, whatever its labels: the sum."""
    return sum(map(float, re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", metrics(sidecar), re.MULTILINE)))


@contextmanager
def start_cluster(kind: Kind | None = None) -> Iterator[Cluster]:
    """Run a cluster and wait until it is whole."""
    kind = kind or Kind()
    cluster = Cluster(kind, _nodes(kind))
    with ExitStack() as stack:
        stack.callback(cluster.ask_no_more)
        for node in cluster.nodes:
            cluster.servers[node.port] = stack.enter_context(_start(kind, node, cluster.nodes))
        wait_until(lambda: cluster.is_whole() and cluster.names_all(), "the cluster does not become whole", 40)
        yield cluster


def _nodes(kind: Kind) -> list[Node]:
    nodes = []
    for number in range(kind.masters * (1 + kind.replicas)):
        plain = free_node_port()
        node_id = hashlib.sha1(f"{plain}".encode(), usedforsecurity=False).hexdigest()
        port = free_node_port() if kind.authority else plain
        first, last = (SLOTS * (number + step) // kind.masters for step in (0, 1))
        if number < kind.masters:
            nodes.append(Node(node_id, port, plain, (first, last - 1)))
        else:
            nodes.append(Node(node_id, port, plain, master=nodes[number - kind.masters].id))
    return nodes


@contextmanager
def _start(kind: Kind, node: Node, nodes: list[Node]) -> Iterator[Server]:
    """Start a node that knows the others."""
    lines = [each.line(kind.host, own=each is node) for each in nodes]
    with _folder(node) as folder:
        text = [*lines, f"vars currentEpoch {max(each.epoch for each in nodes)} lastVoteEpoch 0"]
        (folder / "nodes.conf").write_text("\n".join(text) + "\n")
        with _run(kind, node) as server:
            yield server


def _run(kind: Kind, node: Node) -> AbstractContextManager[Server]:
    """Run a node in its folder, with what it knows of the others there."""
    options = [
        *("--cluster-enabled", "yes", "--cluster-node-timeout", "1500", "--repl-diskless-sync-delay", "0"),
        *("--repl-ping-replica-period", "1"),
        *("--cluster-config-file", "nodes.conf", "--appendonly", "no", "--bind", "127.0.0.1", "::1"),
        *kind.options,
    ]
    if kind.password:
        options += ["--requirepass", kind.password, "--masterauth", kind.password]
    if kind.authority is not None:
        certificate = str(kind.authority.folder / "server.pem")
        options += ["--tls-port", str(node.port), "--tls-cert-file", certificate, "--tls-key-file", certificate]
        options += ["--tls-ca-cert-file", str(kind.authority.file), "--tls-auth-clients", "no"]
        options += ["--tls-cluster", "yes"]
    # The last option of a name wins.
    return _START[kind.server](*options, "--dir", str(_place(node)), port=node.plain_port)


@contextmanager
def _folder(node: Node) -> Iterator[Path]:
    folder = _place(node)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _place(node: Node) -> Path:
    return Path(os.environ.get("TMPDIR", "/tmp")) / f"node-{node.plain_port}-{os.getpid()}"  # noqa: S108 - of this process
