"""A command on its way: where it goes next, and for how long."""

from asynq_ttl.session.routing.destinations import Role
from asynq_ttl.session.routing.errand import ANY, PATIENCE_NS, Errand, errand_for
from asynq_ttl.wire.cluster.slots import slot_of
from support.routed import Cluster


def test_a_command_goes_by_its_key() -> None:
    """Or anywhere."""
    errand = errand_for([b"GET", b"a"], b"data")
    assert (errand.slot, errand.role, errand.data) == (slot_of(b"a"), Role.KEY, b"data")
    assert errand_for([b"PING"], b"data").slot == ANY


def test_it_has_five_seconds_from_its_first_trouble() -> None:
    """Not from when it came."""
    errand = Errand(b"")
    assert errand.in_time(1_000)
    assert errand.in_time(1_000 + PATIENCE_NS - 1)
    assert not errand.in_time(1_000 + PATIENCE_NS)


def test_redirections_are_followed_at_once_a_few_times() -> None:
    """Then each waits for a moment; so does whatever names no node."""
    stop = Cluster().stop("B")
    errand = Errand(b"")
    for _ in range(5):
        errand.sent_on(stop, asking=True)
        assert (errand.node, errand.asking, errand.pausing) == (stop, True, False)
    errand.sent_on(stop, asking=False)
    assert (errand.node, errand.asking, errand.pausing) == (stop, False, True)
    errand.rest()
    assert not errand.pausing
    errand.sent_on(None, asking=True)
    assert (errand.node, errand.asking, errand.pausing) == (None, False, True)
