"""Fixtures that start the real parts: Redis, Valkey, the sidecar, and Asynq's Go harness."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from asynq_ttl.demo.harness import build_harness
from support.asynq import Harness
from support.prepared import launch
from support.servers import SERVERS, Server, SidecarFactory, start_redis, start_valkey

# A test that is given more time than others, or as much explicitly, may take long.
_LONG_SECONDS = 120

# No test goes by the machine's pace, but a loop in debug mode tells of each step that took long.
logging.getLogger("asyncio").addFilter(lambda record: not str(record.msg).startswith("Executing %s took"))
hypothesis.settings.register_profile("asynq-ttl", deadline=None)
hypothesis.settings.load_profile("asynq-ttl")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what may take long, so that none of it is still under way when all else is done.

    Of several processes each begins with another part of the list, so each part gets its share.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if _timeout(item) >= _LONG_SECONDS]
    rest = [item for item in items if _timeout(item) < _LONG_SECONDS]
    parts = [rest[len(rest) * part // processes : len(rest) * (part + 1) // processes] for part in range(processes)]
    items[:] = [item for part in range(processes) for item in (*long[part::processes], *parts[part])]


def _timeout(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0]) if marker else 0


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[Server]:
    """A Redis 6.2.5 that the whole session shares. A test asks for `redis_server`."""
    with start_redis() as server:
        yield server


@pytest.fixture(scope="session")
def shared_valkey() -> Iterator[Server]:
    """A Valkey 9.1 that the whole session shares. A test asks for `valkey_server`."""
    with start_valkey() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: Server) -> Server:
    """A Redis 6.2.5, empty: nothing that another test has left there is met."""
    shared_redis.reset()
    return shared_redis


@pytest.fixture
def valkey_server(shared_valkey: Server) -> Server:
    """A Valkey 9.1, empty."""
    shared_valkey.reset()
    return shared_valkey


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn, empty."""
    chosen: Server = request.getfixturevalue(f"{request.param}_server")
    return chosen


@pytest.fixture(params=SERVERS)
def each_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Redis 6.2, the Redis of PATH and Valkey in turn, fresh."""
    with SERVERS[request.param]() as server:
        yield server


@pytest.fixture(scope="session")
def harness_program() -> Path:
    """The built Asynq harness."""
    return build_harness()


@pytest.fixture
def harness(harness_program: Path) -> Iterator[Harness]:
    """Real Asynq: clients, workers and inspectors."""
    with Harness(harness_program) as harness:
        yield harness


@pytest.fixture
def cluster_harness(harness_program: Path) -> Iterator[Harness]:
    """Real Asynq with `RedisClusterClientOpt`."""
    with Harness(harness_program, cluster=True) as harness:
        yield harness


@pytest.fixture
def start_sidecar(tmp_path: Path) -> Iterator[SidecarFactory]:
    """Start sidecars as processes of their own; at the end none may have warned of anything unexpected."""
    with SidecarFactory(tmp_path, launch) as start:
        yield start
