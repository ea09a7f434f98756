import pytest
from redis.asyncio import Redis

from asynq_ttl.net.address import parse_upstream
from asynq_ttl.sweep.connections import TIMEOUT_SECONDS, Connections
from asynq_ttl.upstream.endpoint import Endpoint


@pytest.fixture(name="connections")
def _connections() -> Connections:
    """Return connections to a Redis whose URL names database 3. None is opened before something is asked."""
    return Connections(Endpoint(parse_upstream("redis://127.0.0.1:1/3")))


@pytest.fixture(name="closed")
def _closed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the databases whose clients are closed."""
    closed: list[int] = []

    async def aclose(client: "Redis") -> None:
        closed.append(database_of(client))

    monkeypatch.setattr(Redis, "aclose", aclose)
    return closed


def database_of(client: "Redis") -> int:
    """Return the number of the database of a client."""
    return int(client.connection_pool.connection_kwargs["db"])


async def test_each_database_has_one_client(connections: Connections) -> None:
    """It is made when it is first asked for; home is the database in the URL."""
    assert await connections.to(0) is await connections.to(0)
    assert [database_of(await connections.to(number)) for number in (0, 4, 15)] == [0, 4, 15]
    assert await connections.home() is await connections.to(3)


async def test_of_many_databases_only_few_have_a_client(connections: Connections, closed: list[int]) -> None:
    """Home stays, as the locks are there; of the others the one that is being swept."""
    home = await connections.home()
    for number in range(12):
        await connections.to(number)
    assert closed == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10]
    assert await connections.home() is home


async def test_operators_can_tell_whose_connections_they_are(connections: Connections) -> None:
    """By their name in `CLIENT LIST`; and none waits for ever."""
    options = (await connections.to(0)).connection_pool.connection_kwargs
    assert options["client_name"] == "asynq-ttl-sweeper"
    assert options["socket_timeout"] == options["socket_connect_timeout"] == TIMEOUT_SECONDS


async def test_a_database_that_is_not_swept_any_more_has_no_client(connections: Connections, closed: list[int]) -> None:
    """It is closed; should it be asked for again there is a new one."""
    before = await connections.to(4)
    await connections.drop(4)
    assert closed == [4]
    assert await connections.to(4) is not before


async def test_at_the_end_all_clients_are_closed(connections: Connections, closed: list[int]) -> None:
    """Each once."""
    for number in (3, 4):
        await connections.to(number)
    await connections.drop(4)
    await connections.drop(4)
    await connections.close()
    assert closed == [4, 3]
