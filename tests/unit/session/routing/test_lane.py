"""One client's connection to one node, in pieces."""

import pytest

from asynq_ttl.session.routing.lane import Lane
from support.conversation import complete, pipeline
from support.routed import Cluster
from support.small_scripts import COMPLETE

REPLIES = b"+OK\r\n>1\r\n+push\r\n*2\r\n$1\r\na\r\n:1\r\n-ERR no\r\n"


def lane() -> tuple[Cluster, Lane]:
    """Return a lane to node A."""
    cluster = Cluster()
    return cluster, Lane(cluster.stop("A"), cluster.directory, b"side.car")


@pytest.mark.parametrize("place", range(len(REPLIES) + 1))
def test_replies_are_cut_at_their_ends(place: int) -> None:
    """Wherever they came apart."""
    _, one = lane()
    wholes = []
    for data in (REPLIES[:place], REPLIES[place:]):
        for piece, begins, ends in one.pieces(data):
            assert begins is (one.held_bytes == 0)
            one.hold(piece)
            if ends:
                wholes.append((one.release(), one.in_push))
    assert wholes == [
        (b"+OK\r\n", False),
        (b">1\r\n+push\r\n", True),
        (b"*2\r\n$1\r\na\r\n:1\r\n", False),
        (b"-ERR no\r\n", False),
    ]
    assert one.counter.between
    assert not one.lost


def test_a_reply_that_the_client_never_gets_ends_no_decision() -> None:
    """The command is decided about again elsewhere. What it gets does."""
    cluster, one = lane()
    registry = one.node.shared.registry
    script = registry.learn(COMPLETE)
    registry.activated(script)
    for _ in range(2):
        assert script.wrapper_sha in one.say(pipeline(complete(script.sha)))
    one.pass_over()
    assert cluster.talk.told() == []
    assert one.hear(b":1\r\n") == b":1\r\n"
    assert len(cluster.talk.told()) == 1
    one.say(pipeline(complete(script.sha)))
    one.close()
    assert len(cluster.talk.told()) == 1


def test_nodes_are_called_otherwise() -> None:
    """In what the client gets."""
    _, one = lane()
    assert one.hear(b"-MOVED 5 10.0.0.1:7000\r\n") == b"-MOVED 5 side.car:6380\r\n"
