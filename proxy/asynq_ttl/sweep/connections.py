"""The sweeper's own connections to Redis: a client for each database that is swept, made when it is first asked for."""

from redis.asyncio import Redis

from asynq_ttl.upstream.endpoint import Endpoint

TIMEOUT_SECONDS = 5.0


class Connections:
    """Clients by database.

    Args:
        endpoint: the Redis.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._clients: dict[int, Redis] = {}

    def home(self) -> "Redis":
        """Return the client of the database that the upstream's URL names: the locks are there."""
        return self.to(self._endpoint.upstream.database)

    def to(self, database: int) -> "Redis":
        """Return the client of a database, by its number."""
        client = self._clients.get(database)
        if client is None:
            client = self._clients[database] = self._endpoint.redis(
                database,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                client_name="asynq-ttl-sweeper",
            )
        return client

    async def drop(self, database: int) -> None:
        """Close the client of a database that is not swept any more."""
        await self._clients.pop(database).aclose()

    async def close(self) -> None:
        """Close all of them."""
        for client in self._clients.values():
            await client.aclose()
