"""In which order commands go, and how a conversation ends; what commands are is in `test_router`."""

from support.routed import Cluster

OK = b"+OK\r\n"


def test_a_client_that_sends_nothing_more_gets_its_replies() -> None:
    """Then it is hung up on; at once where nothing is under way."""
    cluster = Cluster()
    cluster.sends("GET a", "GET b")
    cluster.router.order.end(gone=False)
    cluster.replies("C", OK)
    assert cluster.takes("A") == ["GET b"]
    assert not cluster.over
    cluster.replies("A", OK)
    assert cluster.over
    assert cluster.client_gets() == OK * 2
    other = Cluster()
    other.router.order.end(gone=False)
    assert other.over


def test_what_a_client_has_sent_goes_on_its_way_when_it_is_gone() -> None:
    """Replies are not waited for, but where the next command has to."""
    cluster = Cluster()
    cluster.sends("GET a", "BLPOP b 0")
    cluster.router.order.end(gone=True)
    assert not cluster.over
    cluster.replies("C", OK)
    assert cluster.takes("A") == ["BLPOP b 0"]
    assert cluster.over


def test_a_node_that_answers_too_late() -> None:
    """Or out of turn: nobody waits for it any more."""
    cluster = Cluster(ready=False)
    cluster.sends("GET a")
    cluster.router.order.todo.clear()
    cluster.fails()
    assert cluster.client_gets() == b""
    cluster.router.order.lost(cluster.stop("A"))
    cluster.router.order.receive(cluster.stop("A"), OK)
    assert cluster.client_gets() == b""


def test_a_node_that_serves_nothing_any_more() -> None:
    """Is left, unless it owes a reply; one that is dead will never give it."""
    cluster = Cluster()
    cluster.sends("GET a")
    for dead in (False, True):
        cluster.router.order.left(cluster.stop("A"), dead=dead)
    cluster.router.order.left(cluster.stop("C"), dead=False)
    assert cluster.stop("C").is_open
    cluster.replies("C", OK)
    cluster.router.order.left(cluster.stop("C"), dead=False)
    assert not cluster.stop("C").is_open
    cluster.sends("GET a")
    cluster.router.order.left(cluster.stop("C"), dead=True)
    assert cluster.over
    cluster.router.order.left(cluster.stop("C"), dead=False)
    assert cluster.stop("C").is_open


def test_it_ends_once() -> None:
    """However many reasons there are."""
    cluster = Cluster()
    cluster.router.order.hang_up()
    cluster.over = False
    cluster.router.order.hang_up()
    assert not cluster.over
