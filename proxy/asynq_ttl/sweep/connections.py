"""The sweeper's own connections to Redis: a client for each database, made when it is asked for.

Invariant: however many databases are swept, no more than `MOST` clients are open, each with one connection.
"""

from redis.asyncio import Redis

from asynq_ttl.upstream.endpoint import Endpoint

TIMEOUT_SECONDS = 5.0
# That of the locks, and that of the database that is being swept.
MOST = 2


class Connections:
    """Clients by database, for one who does one thing after the other.

    Args:
        endpoint: the Redis.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        # The one that was asked for last is the last.
        self._clients: dict[int, Redis] = {}

    async def home(self) -> "Redis":
        """Return the client of the database that the upstream's URL names: the locks are there."""
        return await self.to(self._endpoint.upstream.database)

    async def to(self, database: int) -> "Redis":
        """Return the client of a database, by its number. Of those asked for before, one is closed if need be."""
        client = self._clients.pop(database, None) or self._endpoint.redis(
            database,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            client_name="asynq-ttl-sweeper",
        )
        self._clients[database] = client
        others = [number for number in self._clients if number not in (database, self._endpoint.upstream.database)]
        while len(self._clients) > MOST:
            await self.drop(others.pop(0))
        return client

    async def drop(self, database: int) -> None:
        """Close the client of a database, if there is one."""
        client = self._clients.pop(database, None)
        if client is not None:
            await client.aclose()

    async def close(self) -> None:
        """Close all of them."""
        for database in list(self._clients):
            await self.drop(database)
