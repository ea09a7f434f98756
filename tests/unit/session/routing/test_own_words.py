"""What a client says of its own is kept for connections to come; whole conversations are in `test_router`."""

from support.routed import Cluster

OK = b"+OK\r\n"


def test_the_last_words_count() -> None:
    """In the order in which they were said last; a HELLO with a password stands beside one without."""
    cluster = Cluster()
    said = ["HELLO 3 AUTH u p", "CLIENT SETNAME x", "HELLO 2", "CLIENT SETNAME y", "HELLO 3"]
    for words in said:
        cluster.sends(words)
        cluster.replies("A", OK)
    cluster.sends("GET a")
    assert cluster.takes("C") == ["HELLO 3 AUTH u p", "CLIENT SETNAME y", "HELLO 3"]


def test_after_a_reset_nothing_is_said() -> None:
    """Not even what was said before."""
    cluster = Cluster()
    cluster.sends("CLIENT SETNAME x", "RESET", "GET a")
    cluster.replies("A", OK)
    cluster.replies("A", b"+RESET\r\n")
    assert cluster.takes("C") == ["GET a"]
