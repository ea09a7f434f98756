"""Where a transaction is."""

from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.transaction import Transaction
from support.routed import Cluster


def test_a_transaction_has_one_first_command_and_one_lane() -> None:
    """From MULTI until it ends; keys that are watched have one too."""
    cluster = Cluster()
    lane, other = (Lane(cluster.stop(name), cluster.directory, b"h") for name in "AB")
    transaction = Transaction()
    first, second = Errand(b""), Errand(b"")
    assert not transaction.is_first(first)
    transaction.watch(other)
    transaction.asked(b"MULTI")
    assert transaction.open
    assert transaction.is_first(first)
    assert not transaction.is_first(second)
    transaction.began(lane)
    assert transaction.needs(lane)
    assert transaction.needs(other)
    transaction.end()
    assert not (transaction.open or transaction.needs(lane) or transaction.needs(other) or transaction.is_first(first))
