"""Which queues a sweeper sweeps: all of one Redis, or those at one master of a cluster.

Each master of a cluster has a sweeper of its own, which speaks to that node alone and follows no redirection. So where
a slot is on its way, the importing node, at which a hash that has not come yet would look like one that is gone, is
never asked.

Invariants, in a cluster:

* A queue whose slot is on its way to another node is swept by nobody until it has arrived.
* An entry is dropped for want of its hash only if its slot was not on its way after the hash was missed: what is missed
  has then not gone to another node.
* The key of a master's lock is in one of its own slots: two sidecars that see the same slots use the same one.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

from redis.asyncio import Redis

from asynq_ttl.asynq.keys import QUEUES, index_key, text_of
from asynq_ttl.sweep.lock import LOCK_KEY
from asynq_ttl.sweep.survey import BATCH
from asynq_ttl.wire.cluster.slots import SLOTS, slot_of
from asynq_ttl.wire.cluster.topology import parse_nodes


class Part:
    """All queues of one Redis.

    Attributes:
        batch: how many of its queues may be surveyed by one script.
        changes: grows whenever something else belongs to the part.
        moves: whether its queues may go to another node, which sweeps them from then on.
    """

    batch = BATCH
    changes = 0
    moves = False

    async def refresh(self, client: Redis) -> None:
        """Find out what belongs to the part.

        Args:
            client: the sweeper's own, as for all of these.

        Raises:
            RedisError: it cannot be found out.
        """

    async def names(self, client: Redis) -> Collection[str]:
        """Return the names of all queues, of other parts too."""
        members: Any = await client.smembers(text_of(QUEUES))
        return {text_of(member) for member in members}

    def has(self, queue: str) -> bool:  # noqa: ARG002 - every one does
        """Say whether a queue belongs to the part."""
        return True

    async def is_settled(self, client: Redis, queue: str) -> bool:  # noqa: ARG002 - there is no elsewhere
        """Say whether what is missing of a queue here was not taken elsewhere a moment ago."""
        return True

    def lock_key(self) -> str:
        """Return the key of the lock of whoever sweeps the part."""
        return LOCK_KEY


WHOLE = Part()
# Among so many numbers every slot has some.
_TAGS = 20 * SLOTS


class MasterPart(Part):
    """The queues at one master of a cluster.

    Args:
        names: returns the names of all queues of the cluster.
    """

    batch = 1  # two queues are in two slots
    moves = True

    def __init__(self, names: Callable[[], Awaitable[Collection[str]]]) -> None:
        self._names = names
        self._slots: frozenset[int] = frozenset()
        self._lock_key = LOCK_KEY

    async def refresh(self, client: Redis) -> None:
        """Ask the master which slots it has, and which of them are on their way."""
        slots = await _settled_slots(client)
        if slots == self._slots:
            return
        self._slots = slots
        self.changes += 1
        tag = next((tag for tag in range(_TAGS) if slot_of(b"%d" % tag) in slots), 0)
        self._lock_key = f"{LOCK_KEY}:{{{tag}}}"

    async def names(self, client: Redis) -> Collection[str]:  # noqa: ARG002 - another node may have them
        """Return the names of all queues, of other parts too."""
        return await self._names()

    def has(self, queue: str) -> bool:
        """Say whether a queue belongs to the part."""
        return _slot(queue) in self._slots

    async def is_settled(self, client: Redis, queue: str) -> bool:
        """Say whether what is missing of a queue here was not taken elsewhere a moment ago."""
        return _slot(queue) in await _settled_slots(client)

    def lock_key(self) -> str:
        """Return the key of the lock of whoever sweeps the part."""
        return self._lock_key


def _slot(queue: str) -> int:
    return slot_of(index_key(queue, "archived"))


async def nodes_text(client: Redis) -> str:
    """Return what a node says of all nodes, whatever redis-py would make of it."""
    command: Any = client.execute_command
    client.response_callbacks.pop("CLUSTER NODES", None)
    return text_of(await command("CLUSTER NODES"))


async def _settled_slots(client: Redis) -> frozenset[int]:
    """Return the slots that a node serves, but for those that are on their way."""
    view = parse_nodes(await nodes_text(client))
    mine = [node for node in view.nodes if "myself" in node.flags]
    slots = {slot for node in mine for first, last in node.slots for slot in range(first, last + 1)}
    return frozenset(slots.difference(*(node.moving for node in mine)))
