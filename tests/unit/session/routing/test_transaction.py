"""Where a transaction is; whole conversations are in `test_router`."""

import pytest

from asynq_ttl.session.routing.destinations import Role
from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.transaction import OK, Transaction
from support.routed import Cluster


def test_a_transaction_is_open_from_multi_to_its_end() -> None:
    """All commands are part of it, but what takes it back; and none before and after."""
    cluster = Cluster()
    transaction = Transaction(cluster.router.order, lambda _data, _ended: None)
    multi, command = Errand(b"MULTI", role=Role.MULTI), Errand(b"GET")
    assert not transaction.concerns(command)
    assert transaction.multi(multi)
    assert multi.reply == OK
    assert transaction.concerns(command)
    assert not transaction.concerns(Errand(b"RESET", role=Role.RESET))
    assert not transaction.goes_elsewhere(command, Lane(cluster.stop("A"), cluster.directory, b""))
    transaction.end()
    assert not transaction.open
    assert not transaction.concerns(command)


def test_it_waits_for_what_is_under_way() -> None:
    """MULTI is answered in its turn, and goes to a node in its turn."""
    cluster = Cluster()
    cluster.sends("GET a", "MULTI", "GET b")
    assert cluster.client_gets() == b""
    cluster.replies("C", OK)
    assert cluster.client_gets() == OK * 2
    assert cluster.takes("A") == ["MULTI"]


@pytest.mark.parametrize("words", ["EXEC x", "DISCARD x", "UNWATCH x", "MULTI x"])
def test_words_with_too_many_arguments_end_nothing(words: str) -> None:
    """To Redis they are errors, and the transaction goes on; outside of one, nothing has begun."""
    cluster = Cluster()
    cluster.sends(words)
    cluster.replies("A", b"-ERR\r\n")
    assert cluster.takes("A") == [words]
    cluster.sends("MULTI", "GET b", words)
    cluster.replies("A", OK)
    cluster.replies("A", b"+QUEUED\r\n")
    cluster.replies("A", b"-ERR\r\n")
    cluster.sends("GET a")
    assert cluster.takes("A") == ["MULTI", "GET b", words, "GET a"]
