"""Views of a cluster: what they say, and which one wins."""

import pytest

from asynq_ttl.wire.cluster.topology import (
    ClusterNode,
    NoTopologyError,
    View,
    parse_nodes,
    preferred_endpoints,
    split_address,
)

A, B, C, D = (letter * 40 for letter in "abcd")
TEXT = f"""{A} 10.0.0.1:7000@17000,one.example myself,master - 0 1 3 connected 0-99 200 [150->-{B}] [7-<-{C}]
{B} 10.0.0.2:7000@17000 master - 0 1 5 connected 100-149
{C} ::1:7002@17002 slave {A} 0 1 3 connected
{D} :0@0 master,noaddr - 0 1 1 disconnected
"""


def test_a_line_becomes_a_node() -> None:
    """ID, address, name, role, epoch, link, slots, and slots on their way."""
    view = parse_nodes(TEXT)
    one, two, three, four = view.nodes
    flags = frozenset(("myself", "master"))
    assert one == ClusterNode(
        A, "10.0.0.1", 7000, "one.example", "", 3, flags, True, ((0, 99), (200, 200)), frozenset((150, 7))
    )
    assert (two.hostname, two.moving, two.is_master, two.seems_dead, two.is_there) == (
        "",
        frozenset(),
        True,
        False,
        True,
    )
    assert (three.host, three.port, three.master, three.is_master) == ("::1", 7002, A, False)
    assert (four.host, four.port, four.seems_dead, four.is_there) == ("", 0, True, False)
    assert view.epoch == 5
    assert [node.id for node in view.masters()] == [A, B]


def test_a_slot_has_one_owner() -> None:
    """Or none."""
    view = parse_nodes(TEXT)
    for slot, owner in ((0, A), (99, A), (100, B), (149, B), (200, A)):
        node = view.owner(slot)
        assert node is not None
        assert node.id == owner
    assert view.owner(150) is None


@pytest.mark.parametrize("text", ["x", f"{A} 10.0.0.1 master - 0 0 1 connected", f"{A} h:1@2 master - 0 0 e connected"])
def test_anything_else_is_refused(text: str) -> None:
    """A reply that is not understood is no view."""
    with pytest.raises(NoTopologyError):
        parse_nodes(text)


def test_an_address_has_four_parts() -> None:
    """Behind the host name there may be more."""
    assert split_address("::1:7@17,h,shard-id=x") == ("::1", 7, "h", "@17")
    assert split_address("h:7") == ("h", 7, "", "")


def view(*masters: str, epoch: int = 1, dead: str = "") -> View:
    """Return a view of masters by their letters."""
    return View(
        tuple(
            ClusterNode(
                letter * 40,
                "h",
                1,
                epoch=epoch,
                flags=frozenset(("master", "fail?") if letter in dead else ("master",)),
                slots=((number, number),),
            )
            for number, letter in enumerate(masters)
        )
    )


@pytest.mark.parametrize(
    ("new", "known", "wins"),
    [
        (view("a", "b", "c"), None, True),
        (view("a", "b", "c", dead="bc"), None, False),
        (view("a", "b", "c", dead="c"), None, True),
        (view("a", "b", dead="b"), None, False),  # half of them is not most of them
        (view("a", "b", "c", epoch=2), view("a", "b", "c"), True),
        (view("a", "b", "c"), view("a", "b", "c", epoch=2), False),
        (view("a", "b", "d"), view("a", "b", "c"), True),
        (view("x", "y", "z", epoch=9), view("a", "b", "c"), False),
        (view("a", epoch=9), view("a", "b", "c"), False),  # a node that was reset
        (View(()), None, False),
    ],
)
def test_no_single_node_that_failed_is_believed(new: View, known: View | None, wins: bool) -> None:
    """A view wins if it sees most masters, is not older, and has most of the masters that are known."""
    assert new.beats(known) is wins


def test_a_node_without_a_link_seems_dead() -> None:
    """Whatever its flags say."""
    assert ClusterNode(A, "h", 1, linked=False).seems_dead


def test_clients_have_an_address_of_their_own() -> None:
    """An address that is unknown or not set is the one at which the cluster was asked."""
    slots = [
        [0, 5, [b"10.0.0.1", 7000, A.encode()], [None, 7001, B.encode(), []]],
        [6, 7, [b"?", 7002, C.encode(), []], ["h", 7003, D]],
    ]
    assert preferred_endpoints(slots) == {A: ("10.0.0.1", 7000), B: ("", 7001), C: ("", 7002), D: ("h", 7003)}


@pytest.mark.parametrize("slots", [[[1]], [[0, 1, [b"h", 7]]], [[0, 1, 2]], [5]])
def test_other_slots_are_refused(slots: list[object]) -> None:
    """A reply that is not understood says nothing."""
    with pytest.raises(NoTopologyError):
        preferred_endpoints(slots)
