"""The names of all queues of a cluster: one of its nodes has them.

Invariant: where that node cannot be asked, the names are those of before. So what sweeps the other nodes goes on.
"""

from collections.abc import Collection

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.asynq.keys import QUEUES
from asynq_ttl.sweep.connections import TIMEOUT_SECONDS
from asynq_ttl.sweep.part import WHOLE
from asynq_ttl.upstream.cluster import Cluster, Member
from asynq_ttl.wire.cluster.slots import slot_of

_SLOT = slot_of(QUEUES)


class QueueNames:
    """Asks for the names.

    Args:
        cluster: whose queues they are.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._known: Collection[str] | None = None
        self._client: tuple[Member, Redis] | None = None

    async def names(self) -> Collection[str]:
        """Return the names.

        Raises:
            RedisError: they cannot be asked for, and never could.
            OSError: likewise.
        """
        try:
            self._known = await WHOLE.names(await self._at_owner())
        except (RedisError, OSError):
            if self._known is None:
                raise
        return self._known

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client[1].aclose()
            self._client = None

    async def _at_owner(self) -> Redis:
        view = self._cluster.view
        owner = view.owner(_SLOT) if view is not None else None
        member = self._cluster.members.get(owner.id) if owner is not None else None
        if member is None:
            raise OSError("no node serves the names of the queues")
        if self._client is None or self._client[0] is not member:
            await self.close()
            seconds = TIMEOUT_SECONDS
            client = member.endpoint.redis(max_connections=1, socket_timeout=seconds, socket_connect_timeout=seconds)
            self._client = member, client
        return self._client[1]
