"""Which port stands for which node."""

from typing import cast

import pytest

from asynq_ttl.net.address import Address, parse_upstream
from asynq_ttl.relay.port_table import PortTable
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.upstream.cluster import Member
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.topology import ClusterNode, View


class Company:
    """A table, and the members of a cluster."""

    def __init__(self, ports: range = range(6400, 6410)) -> None:
        self.members: dict[str, Member] = {}
        self.looked = 0
        self.table = PortTable(ports, lambda: 6380, self.members.get, self.look)

    def meet(self, node_id: str, host: str = "h", port: int = 1) -> int:
        """Let there be a member, which gets a port; return that."""
        endpoint = Endpoint(parse_upstream(f"redis://{Address(host, port)}"))
        self.members[node_id] = Member(node_id, endpoint, ScriptRegistry(), cast("ControlConnection", None))
        self.table.enlist(self.members[node_id])
        return self.table.of_node(node_id, "", 0)

    def look(self) -> None:
        """Count."""
        self.looked += 1

    def view(self, *nodes: tuple[str, str, int, str]) -> None:
        """Take note of nodes: ID, host, port, host name. The first has slot 0, the second slot 1, and so on."""
        self.table.viewed(View(tuple(ClusterNode(*node, slots=((at, at),)) for at, node in enumerate(nodes))))


@pytest.fixture
def company() -> Company:
    """A cluster of two nodes."""
    company = Company()
    for name, host, port in (("a", "10.0.0.1", 7000), ("b", "10.0.0.2", 7000)):
        company.meet(name, host, port)
    company.view(("a", "10.0.0.1", 7000, ""), ("b", "10.0.0.2", 7000, "b.example"))
    return company


def test_each_node_has_a_port_of_its_own(company: Company) -> None:
    """The first that is free; it keeps it, wherever it goes."""
    table = company.table
    assert company.meet("c") == 6402
    assert [table.of_node(name, "elsewhere", 1) for name in "abc"] == [6400, 6401, 6402]
    assert table.member(6401) is company.members["b"]
    assert table.member(6409) is None


def test_a_port_that_was_left_is_the_last_to_be_given_again(company: Company) -> None:
    """A client may still believe that another node is there."""
    table = company.table
    generation = table.generation
    table.dismiss(company.members.pop("a"))
    assert table.member(6400) is None
    assert company.meet("c") == 6402
    assert table.generation > generation + 1
    for number in range(7):
        company.meet(str(number))
    assert company.meet("d") == 6400


def test_where_there_are_too_few_ports_nodes_are_called_by_the_sidecar_s_own() -> None:
    """Which leads to any of them; until a port becomes free, as when one node replaces another."""
    company = Company(range(6400, 6401))
    table = company.table
    assert [company.meet(name) for name in "abc"] == [6400, 6380, 6380]
    assert table.portless == 2
    assert [table.has_port(company.members[name]) for name in "abc"] == [True, False, False]
    assert table.dismiss(company.members.pop("b")) == []
    assert table.portless == 1
    generation = table.generation
    assert table.dismiss(company.members.pop("a")) == [company.members["c"]]
    assert table.portless == 0
    assert table.generation > generation
    assert table.member(6400) is company.members["c"]
    assert table.of_node("c", "h", 1) == 6400


@pytest.mark.parametrize(
    ("host", "port", "slot", "expected"),
    [
        ("10.0.0.1", 7000, 5, 6400),
        ("10.0.0.2", 7000, 5, 6401),
        ("b.example", 7000, 5, 6401),
        ("10.0.0.3", 7000, 5, 6380),  # no view has named it: whoever says so may have made it up
        ("", 7000, 1, 6401),  # two have that port: whose slot is it?
        ("", 7000, 9, 6400),  # nobody's: any of the two, Redis will say
        ("", 7001, 0, 6400),
        ("", 7001, 9, 6380),
    ],
)
def test_a_redirection_leads_to_the_port_of_the_node(
    company: Company, host: str, port: int, slot: int, expected: int
) -> None:
    """By address, by name, or by the slot; and the cluster is asked at once."""
    assert company.table.at_address(host, port, slot) == expected
    assert company.looked == 1


def test_a_node_without_a_host_is_known_by_its_port(company: Company) -> None:
    """If no other node has that port."""
    company.meet("c", "10.0.0.1", 7002)
    assert company.table.at_address("", 7002, 0) == 6402


def test_a_node_that_no_view_has_named_is_none(company: Company) -> None:
    """It has no port, and nobody connects to it: the sidecar's own port stands for it, and the cluster is asked."""
    assert company.table.of_node("c", "10.0.0.3", 7000) == 6380
    assert company.table.member_at("10.0.0.3", 7000, 5) is None
    assert company.looked == 1
    company.view(("a", "10.0.0.1", 7000, ""), ("z", "10.0.0.9", 7000, ""))
    assert company.table.at_address("10.0.0.9", 7000, 1) == 6380
    assert set(company.members) == {"a", "b"}


def test_before_any_view_a_redirection_leads_somewhere() -> None:
    """To the sidecar itself, never past it."""
    assert Company().table.at_address("", 7000, 5) == 6380
