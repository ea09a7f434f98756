"""Nodes of a cluster for unit tests of the tools: what each answers is in memory.

That real nodes answer so: `tests/integration/existing_keys/test_cluster.py`.
"""

from fnmatch import fnmatchcase
from typing import Any, Self

import pytest
from redis.exceptions import ConnectionError  # noqa: A004 - redis-py's

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.cluster import database, masters
from asynq_ttl.existing_keys.database import Cursor, Database
from asynq_ttl.net.address import Address, Upstream, parse_upstream
from asynq_ttl.wire.cluster.slots import slot_of

UPSTREAM = parse_upstream("redis+cluster://127.0.0.1:7001,127.0.0.1:7002,127.0.0.1:7003")
THIRDS = ((0, 5460), (5461, 10922), (10923, 16383))


class ScriptedNode:
    """A master, and its client.

    Args:
        number: 1 to 3: its ID is `node-NUMBER`, its port 7000 and the number.
        keys: the keys that it has.
    """

    def __init__(self, number: int, keys: list[bytes]) -> None:
        self.id = f"node-{number}"
        self.port = 7000 + number
        self.keys = keys
        self.slots = THIRDS[number - 1]
        self.epoch = number
        self.moving = ""
        """What stands behind its slots in its own view, such as `[5->-node-2]`."""
        self.fault: Exception | None = None
        """What all that is asked raises."""
        self.run = f"run-{number}"
        self.replies: dict[str, Any] = {}
        """What commands about keys reply."""
        self.dead: set[str] = set()
        """The IDs of the nodes that it does not see."""
        self.others: list[ScriptedNode] = []
        self.closed = 0
        self.response_callbacks: dict[str, Any] = {}

    def execute_command(self, command: str, *arguments: Any) -> Any:
        """Reply to a command."""
        self._answer()
        if command == "CLUSTER NODES":
            return "\n".join(self._line(node) for node in self.others).encode()
        if command == "CLUSTER SLOTS":
            return [[*node.slots, [b"127.0.0.1", node.port, node.id.encode()]] for node in self.others]
        reply = self.replies[command]
        if isinstance(reply, Exception):
            raise reply
        return reply

    def info(self, section: str) -> dict[str, Any]:
        """Say which run it is."""
        self._answer()
        return {"redis_version": "7.0.15", "run_id": self.run, "section": section}

    def scan(self, cursor: int, *, match: bytes, count: int) -> tuple[int, list[bytes]]:
        """Yield two keys at a time."""
        self._answer()
        keys = [key for key in self.keys if fnmatchcase(key, match)]
        return (0 if cursor + 2 >= len(keys) else cursor + 2), keys[cursor : cursor + 2]

    def time(self) -> tuple[int, int]:
        """Say what time it is."""
        self._answer()
        return 1_700_000_000 + self.port, 0

    def dbsize(self) -> int:
        """Say how many keys there are."""
        self._answer()
        return len(self.keys)

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self) -> None:
        if self.fault is not None:
            raise self.fault

    def _line(self, node: "ScriptedNode") -> str:
        own = node is self
        flags = "myself,master" if own else "master,fail" if node.id in self.dead else "master"
        slots = f"{node.slots[0]}-{node.slots[1]}" + (f" {node.moving}" if own and node.moving else "")
        return f"{node.id} 127.0.0.1:{node.port}@1{node.port} {flags} - 0 0 {node.epoch} connected {slots}"


def scripted_cluster(patch: pytest.MonkeyPatch, *keys: list[bytes]) -> list[ScriptedNode]:
    """Return three masters, to which the tools connect from here on.

    Args:
        patch: undoes that.
        keys: the keys of each.
    """
    nodes = [ScriptedNode(number + 1, list(keys[number]) if number < len(keys) else []) for number in range(3)]
    for node in nodes:
        node.others = nodes
    by_port = {node.port: node for node in nodes}

    def client(_: Upstream, address: Address, _seconds: float = 0) -> Any:
        return by_port[address.port]

    patch.setattr(masters, "node_client", client)
    patch.setattr(database, "node_client", client)
    return nodes


def unreachable(node: ScriptedNode) -> None:
    """Let a node answer nothing."""
    node.fault = ConnectionError("refused")


def place(queue: str) -> int:
    """Return which of three masters has a queue."""
    slot = slot_of(queue_prefix(queue))
    return next(number for number, (first, last) in enumerate(THIRDS) if first <= slot <= last)


def names(node: int, count: int) -> list[str]:
    """Return names of queues at a master."""
    return [name for name in (f"q{number}" for number in range(500)) if place(name) == node][:count]


def keys(node: int, count: int = 5) -> list[bytes]:
    """Return keys of as many queues at a master."""
    return [queue_prefix(name) + b"t:a" for name in names(node, count)]


def filled_cluster(patch: pytest.MonkeyPatch) -> list[ScriptedNode]:
    """Return three masters with five queues each; one of them has `asynq:queues`."""
    nodes = scripted_cluster(patch, keys(0), keys(1), keys(2))
    owner = next(n for n, (first, last) in enumerate(THIRDS) if first <= slot_of(b"asynq:queues") <= last)
    nodes[owner].replies["SMEMBERS"] = {name.encode() for node in range(3) for name in names(node, 5)}
    return nodes


def opened() -> database.ClusterDatabase:
    """Return the database of these nodes, whose queues have been asked for."""
    found = database.ClusterDatabase(UPSTREAM)
    found.queues()
    return found


def walk(walked: Database, cursor: Cursor = 0, steps: int = 1000) -> tuple[Cursor, list[bytes]]:
    """Walk on for some steps; return where the walk stands then, and what was seen."""
    seen: list[bytes] = []
    for _ in range(steps):
        cursor, found = walked.scan(cursor, match=b"asynq:*", count=2)
        seen += found
        if not cursor:
            break
    return cursor, seen
