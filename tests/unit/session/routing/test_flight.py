"""What is under way at one node, and within which limits."""

import pytest

from asynq_ttl.session.routing import flight as module
from support.routed import Cluster

OK = b"+OK\r\n"
MOVED = b"-MOVED 15495 10.0.0.1:1\r\n"


@pytest.mark.parametrize(("limit", "most"), [("MAX_COMMANDS", 2), ("MAX_BYTES", 45)])
def test_so_much_is_under_way(monkeypatch: pytest.MonkeyPatch, limit: str, most: int) -> None:
    """What comes behind waits for a reply. A single command may have any size."""
    monkeypatch.setattr(module, limit, most)
    cluster = Cluster()
    cluster.sends("GET a", "GET a", "GET a")
    assert len(cluster.takes("C")) == 2
    cluster.replies("C", OK)
    assert len(cluster.takes("C")) == 1
    cluster.replies("C", OK, OK)
    cluster.sends("SET a " + "x" * 50)
    assert len(cluster.takes("C")) == 1


def test_so_much_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what comes behind a command that has to go elsewhere."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 32)
    cluster = Cluster()
    cluster.sends("GET a", "GET a", "GET a")
    long = b"$15\r\n" + b"x" * 15 + b"\r\n"
    cluster.replies("C", MOVED + long)
    assert not cluster.over
    cluster.replies("C", long)
    assert cluster.over


def test_so_many_pushes_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a reply to end."""
    monkeypatch.setattr(module, "MAX_COMMANDS", 1)
    cluster = Cluster()
    cluster.sends("GET b")
    cluster.replies("A", OK)
    cluster.sends("GET a")
    cluster.replies("C", b"$5\r\n")
    cluster.replies("A", b">1\r\n+a\r\n")
    assert not cluster.over
    cluster.replies("A", b">1\r\n+a\r\n")
    assert cluster.over


def test_an_error_of_another_node_is_nobody_s() -> None:
    """It was asked for nothing."""
    cluster = Cluster()
    cluster.sends("GET b")
    cluster.replies("A", OK)
    cluster.sends("GET a")
    cluster.replies("A", b"-ERR no\r\n")
    assert cluster.over
