"""Who serves which slot, and who is told when a node no longer does."""

from typing import cast

from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.relay.routes import Route, Routes
from asynq_ttl.session.renaming import Directory
from asynq_ttl.session.routing.nodes import Node
from asynq_ttl.upstream.cluster import Cluster, Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from support.conversation import Conversation


class Company:
    """A cluster of which nothing is known but what a test says (`upstream.cluster.Company`)."""

    def __init__(self) -> None:
        self.talk = Conversation()
        self.cluster = Cluster(Endpoint(parse_upstream("redis+cluster://10.0.0.1:7000")), self)
        self.table = PortTable(range(0), lambda: 6380, self.cluster.members.get, self.cluster.look)
        self.routes = Routes(self.cluster, self.table, Directory(self.table, lambda: 0, lambda _: None))
        self.left: list[tuple[str, bool]] = []

    def enlist(self, node_id: str, address: Address) -> Member:
        """Return a new member."""
        endpoint = Endpoint(parse_upstream(f"redis://{address}"))
        control = ControlConnection(endpoint, self.talk.registry, lambda _: None)
        member = Member(node_id, endpoint, self.talk.registry, control)
        self.table.enlist(member)
        self.routes.enlist(member, self.talk.shared)
        return member

    def dismiss(self, member: Member) -> None:
        """Forget a member."""
        self.table.dismiss(member)
        self.routes.dismiss(member)

    def viewed(self, view: View) -> None:
        """Take note of a view."""
        for node in view.nodes:
            self.cluster.meet(node.id, Address(node.host, node.port)).take(node, 0)
        self.table.viewed(view)
        self.routes.viewed(view)

    def node_left(self, node: Node, *, dead: bool) -> None:
        """Remember it."""
        self.left.append((cast("Route", node).member.id, dead))

    def owners(self, *slots: int) -> list[str]:
        """Return the IDs of those that serve some slots; empty for nobody."""
        found = [cast("Route | None", self.routes.owner(slot)) for slot in slots]
        return ["" if route is None else route.member.id for route in found]


def view(**slots: tuple[tuple[int, int], ...]) -> View:
    """Return a view of nodes, and which slots they serve; one that has `dead` in its name is."""
    return View(
        tuple(
            ClusterNode(name, "10.0.0.1", 7000 + number, slots=ranges, linked=name != "dead")
            for number, (name, ranges) in enumerate(slots.items())
        )
    )


def test_who_serves_a_slot_is_what_the_last_view_says() -> None:
    """Nobody before there is one."""
    company = Company()
    assert company.owners(0) == [""]
    assert company.routes.masters() == []
    assert company.routes.some() is None
    company.viewed(view(b=((5, 9),), a=((0, 3), (10, 16383)), c=()))
    assert company.owners(0, 3, 4, 5, 9, 10, 16383) == ["a", "a", "", "b", "b", "a", "a"]
    assert company.routes.masters() == [0, 5]
    before = company.routes.owner(0)
    company.viewed(view(b=((5, 9),), a=((0, 3), (10, 16383)), c=()))
    assert company.routes.owner(0) is before
    company.viewed(view(b=((0, 9),), a=((10, 16383),), c=()))
    assert company.owners(0, 10) == ["b", "a"]
    assert company.routes.owner(10) is before
    assert before is not None
    assert before.shared is company.talk.shared


def test_any_master_is_one_that_answers() -> None:
    """Each in its turn; any, where none does."""
    company = Company()
    company.viewed(view(a=((0, 5),), b=((6, 9),), c=()))
    assert len({company.routes.some() for _ in range(4)}) == 2
    company.cluster.members["a"].control.problem = ""
    assert {company.routes.some() for _ in range(4)} == {company.routes.owner(0)}


def test_a_node_is_found_by_its_address() -> None:
    """Where no view has named one there, there is none."""
    company = Company()
    assert company.routes.at("", 7000, 0) is None
    company.viewed(view(a=((0, 5),), b=((6, 9),)))
    assert company.routes.at("10.0.0.1", 7001, 0) is company.routes.owner(6)
    assert company.routes.at("10.0.0.9", 7009, 0) is None
    company.routes.look()
    assert company.cluster._wake.is_set()


def test_clients_are_told_of_nodes_that_serve_nothing_any_more() -> None:
    """And whether they are dead; one that is no member any more has no connections."""
    company = Company()
    company.routes.admit(company)
    company.viewed(view(a=((0, 5),), dead=((6, 9),), gone=((10, 11),)))
    gone = company.cluster.members.pop("gone")
    company.dismiss(gone)
    company.viewed(view(a=(), dead=(), b=((0, 9),)))
    assert sorted(company.left) == [("a", False), ("dead", True)]
    company.routes.forget(company)
    company.viewed(view(a=((0, 5),), b=()))
    assert len(company.left) == 2
