"""How a client that sends nothing more is seen off."""

from support.routed import Cluster

OK = b"+OK\r\n"


def test_a_client_that_sends_nothing_more_waits_for_nobody() -> None:
    """What may block is told that nothing comes: the node replies at once or hangs up, and so does the sidecar."""
    cluster = Cluster()
    cluster.sends("SET a 1", "BLPOP a 0", "GET b")
    cluster.router.order.end(gone=False)
    assert cluster.ended == []
    cluster.replies("C", OK)
    assert cluster.ended == ["C"]
    cluster.hangs_up("C")
    assert cluster.over
    assert cluster.takes("A") == []


def test_a_node_that_was_told_so_and_replies_is_left() -> None:
    """What was sent behind goes on its way, over another connection."""
    cluster = Cluster()
    cluster.sends("BLPOP a 0", "GET b", "BLPOP a 0")
    cluster.router.order.end(gone=False)
    assert cluster.ended == ["C"]
    cluster.replies("C", OK)
    assert not cluster.stop("C").is_open
    cluster.replies("A", OK)
    assert cluster.stop("C").opened == 2
    assert cluster.ended == ["C", "C"]
    cluster.replies("C", OK)
    assert cluster.over
    assert cluster.client_gets() == OK * 3


def test_in_a_transaction_nothing_blocks() -> None:
    """So its node is told nothing before its end."""
    cluster = Cluster()
    cluster.sends("MULTI", "BLPOP a 0", "EXEC")
    cluster.router.order.end(gone=False)
    cluster.replies("C", OK)
    cluster.replies("C", b"+QUEUED\r\n")
    assert cluster.ended == []
    cluster.replies("C", b"*1\r\n*-1\r\n")
    assert cluster.over
