"""What a client says of its own is kept for connections to come; whole conversations are in `test_router`."""

import pytest

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


def choosing(mode: str) -> Cluster:
    """Return a cluster whose client tracks what it chooses."""
    cluster = Cluster()
    cluster.sends(f"CLIENT TRACKING ON {mode}")
    cluster.replies("A", b"+OK\r\n")
    assert cluster.takes("A") == [f"CLIENT TRACKING ON {mode}"]
    assert cluster.client_gets() == b"+OK\r\n"
    return cluster


@pytest.mark.parametrize(("mode", "word"), [("OPTIN", "yes"), ("OPTOUT", "NO")])
def test_a_choice_goes_with_the_next_command(mode: str, word: str) -> None:
    """To whichever node that goes, also when it goes on to another; and with no other."""
    cluster = choosing(mode)
    cluster.sends(f"CLIENT CACHING {word}")
    assert cluster.client_gets() == b"+OK\r\n"
    cluster.sends("GET a")
    cluster.replies("C", b"+OK\r\n")
    assert cluster.takes("C") == [f"CLIENT TRACKING ON {mode}", f"CLIENT CACHING {word}", "GET a"]
    cluster.replies("C", b"+OK\r\n", b"-MOVED 15495 10.0.0.1:0\r\n")
    assert cluster.takes("A") == [f"CLIENT CACHING {word}", "GET a"]
    cluster.replies("A", b"+OK\r\n", b"$1\r\nx\r\n")
    assert cluster.client_gets() == b"$1\r\nx\r\n"
    cluster.sends("GET a")
    assert cluster.takes("C") == ["GET a"]


def test_a_choice_goes_with_a_transaction() -> None:
    """Before MULTI: inside it would be too late."""
    cluster = choosing("OPTIN")
    cluster.sends("CLIENT CACHING YES", "MULTI", "GET b", "EXEC")
    cluster.replies("A", b"+OK\r\n", b"+OK\r\n")
    cluster.replies("A", b"+QUEUED\r\n")
    cluster.replies("A", b"*1\r\n$-1\r\n")
    assert cluster.takes("A") == ["CLIENT CACHING YES", "MULTI", "GET b", "EXEC"]
    assert cluster.client_gets() == b"+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"


def test_a_choice_is_answered_in_its_turn() -> None:
    """What was sent before it is answered first."""
    cluster = choosing("OPTIN")
    cluster.sends("GET b", "CLIENT CACHING YES", "GET b")
    assert cluster.takes("A") == ["GET b"]
    assert cluster.client_gets() == b""
    cluster.replies("A", b"$1\r\nx\r\n")
    assert cluster.takes("A") == ["CLIENT CACHING YES", "GET b"]
    assert cluster.client_gets() == b"$1\r\nx\r\n+OK\r\n"


@pytest.mark.parametrize("words", ["CLIENT CACHING NO", "CLIENT CACHING", "CLIENT CACHING YES NO"])
def test_a_choice_that_cannot_be_made_a_node_refuses(words: str) -> None:
    """In its own words."""
    cluster = choosing("OPTIN")
    cluster.sends(words)
    assert cluster.takes("A") == [words]


def test_a_client_that_goes_takes_its_choice_along() -> None:
    """Nothing waits for the command that does not come."""
    cluster = choosing("OPTIN")
    cluster.sends("CLIENT CACHING YES")
    assert cluster.router.busy
    cluster.router.order.end(gone=False)
    assert cluster.over


def test_what_cannot_be_tracked_is_the_end() -> None:
    """A client that believes that it is told of changes would use what is old."""
    cluster = choosing("OPTIN")
    cluster.sends("CLIENT TRACKING ON REDIRECT 7", "GET a")
    assert cluster.client_gets().startswith(b"-ERR asynq-ttl: CLIENT TRACKING cannot REDIRECT")
    assert cluster.takes("C") == ["CLIENT TRACKING ON OPTIN"]
    cluster.replies("C", b"-NOPERM\r\n")
    assert cluster.over
