"""What a router asks for is what those have that it asks."""

import pytest

from asynq_ttl.relay.routed_port import RoutedUpstream
from asynq_ttl.relay.routes import Route, Routes
from asynq_ttl.session.routing.nodes import Node, Nodes, Outside


def names(kind: type) -> set[str]:
    """Return the public names of a class."""
    return {name for name in vars(kind) if not name.startswith("_")}


@pytest.mark.parametrize(("interface", "who"), [(Node, Route), (Nodes, Routes), (Outside, RoutedUpstream)])
def test_whoever_is_asked_has_it(interface: type, who: type) -> None:
    """Under the same names, and with a docstring for each."""
    assert names(interface) <= {name for kind in who.__mro__ for name in vars(kind)}
    assert all(vars(interface)[name].__doc__ for name in names(interface))
