"""What the tests of the wrappers connect to."""

from collections.abc import Iterator

import pytest
import redis

from support.servers import Server
from support.wrapped import populate


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """Connect to a server on which one queue has tasks in every state."""
    with server.client() as client:
        populate(client)
        yield client


@pytest.fixture
def empty(server: Server) -> Iterator[redis.Redis]:
    """Connect to an empty server."""
    with server.client() as client:
        yield client
