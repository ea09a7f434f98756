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


def opened() -> Cluster:
    """Return a cluster whose client has a connection to node C, so that a command goes there at once."""
    cluster = Cluster()
    cluster.sends("GET a")
    cluster.replies("C", OK)
    cluster.takes("C")
    cluster.client_gets()
    return cluster


def test_commands_that_come_one_by_one_go_at_once() -> None:
    """As long as they go to the same node. Each has its reply, in order."""
    cluster = opened()
    cluster.sends("GET a")
    cluster.sends("SET a 1")
    cluster.sends("GET b")
    assert cluster.takes("C") == ["GET a", "SET a 1"]
    cluster.replies("C", b":1\r\n")
    assert cluster.client_gets() == b":1\r\n"
    cluster.sends("GET a")
    assert cluster.takes("C") == cluster.takes("A") == []
    cluster.replies("C", OK)
    assert cluster.takes("A") == ["GET b"]
    cluster.replies("A", b":2\r\n")
    cluster.replies("C", b":3\r\n")
    assert cluster.client_gets() == OK + b":2\r\n:3\r\n"


def test_the_next_one_may_go_to_another_node() -> None:
    """Once the one before is answered; until then it waits, and takes nothing with it."""
    cluster = opened()
    cluster.sends("GET b")
    cluster.replies("A", OK)
    cluster.takes("A")
    cluster.sends("GET a")
    cluster.sends("GET b")
    assert (cluster.takes("C"), cluster.takes("A")) == (["GET a"], [])
    cluster.replies("C", b":1\r\n")
    assert cluster.takes("A") == ["GET b"]


@pytest.mark.parametrize("step", [0, 1, 7])
def test_a_command_that_has_gone_at_once_may_have_to_go_elsewhere(step: int) -> None:
    """It is known what it was."""
    cluster = opened()
    cluster.sends("GET a")
    cluster.replies("C", MOVED.replace(b":1\r", b":0\r"), step=step)
    assert (cluster.takes("C"), cluster.takes("A")) == (["GET a"], ["GET a"])
    cluster.replies("A", b"*1\r\n:1\r\n", step=step)
    assert cluster.client_gets() == b"*1\r\n:1\r\n"


@pytest.mark.parametrize("reply", [OK, b"$4\r\n-ERR\r\n", b"*1\r\n-ERR no\r\n", b"-ERR no\r\n", b">1\r\n+a\r\n" + OK])
@pytest.mark.parametrize("step", [0, 1, 3])
def test_the_reply_to_a_command_that_has_gone_at_once(reply: bytes, step: int) -> None:
    """Is the client's, whatever it is, and the next one may go."""
    cluster = opened()
    for _ in range(2):
        cluster.sends("GET a")
        assert cluster.router.pending == 1
        cluster.replies("C", reply, step=step)
        assert cluster.client_gets() == reply
        assert cluster.router.pending == 0
    cluster.sends("GET b")
    assert cluster.takes("C") == ["GET a"] * 2
    assert cluster.takes("A") == ["GET b"]
