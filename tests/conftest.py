"""Fixtures that start the real parts: Redis, Valkey, the sidecar, and Asynq's Go harness."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from asynq_ttl.demo.harness import build_harness
from support.asynq import Harness
from support.servers import SERVERS, Server, SidecarFactory, start_redis, start_valkey

# No test goes by the machine's pace.
hypothesis.settings.register_profile("asynq-ttl", deadline=None)
hypothesis.settings.load_profile("asynq-ttl")


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Server]:
    """A Redis 6.2.5 that the whole session shares."""
    with start_redis() as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Server]:
    """A Valkey 9.1 that the whole session shares."""
    with start_valkey() as server:
        yield server


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each kind of server in turn, empty."""
    chosen: Server = request.getfixturevalue(f"{request.param}_server")
    chosen.reset()
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
    with SidecarFactory(tmp_path) as start:
        yield start
