"""The nodes of a cluster in one sidecar: what each has, and what is left when it is gone."""

import asyncio
import logging
from typing import Any, cast

import pytest

from asynq_ttl.net.address import Address
from asynq_ttl.policy.rules import Mode
from asynq_ttl.relay.node_port import NodeDownstream
from asynq_ttl.relay.routed_port import RoutedDownstream
from asynq_ttl.sidecar.admin.status import overview, wrappers
from asynq_ttl.sidecar.cluster_nodes import ClusterNodes
from asynq_ttl.sidecar.sidecar import Sidecar
from asynq_ttl.upstream.cluster import Member
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from support.in_process import make_sidecar
from support.recorded import activated
from support.servers import free_port
from support.small_scripts import COMPLETE

PORTS = range(6400, 6402)


def scene(**settings: Any) -> tuple[Sidecar, ClusterNodes]:
    """Return a sidecar in front of a cluster that is not there."""
    sidecar = make_sidecar(f"redis+cluster://127.0.0.1:{free_port()}", cluster_ports=PORTS, **settings)
    assert sidecar.nodes is not None
    return sidecar, sidecar.nodes


def meet(nodes: ClusterNodes, name: str, *, slots: bool = True) -> Member:
    """Return a new member; it answers."""
    member = nodes.cluster.meet(name, Address("127.0.0.1", 1))
    member.node = ClusterNode(name, "127.0.0.1", 1, slots=((0, 5),) if slots else ())
    member.control.problem = ""
    nodes.cluster.problem = ""
    return member


def led_to(protocol: asyncio.Protocol) -> Member | None:
    """Return the node that a client is led to."""
    return cast("NodeDownstream", protocol)._port._member


async def test_each_node_has_a_port_and_a_connection_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    """Until it is gone. One for which there is no port is told of."""
    caplog.set_level(logging.INFO)
    sidecar, nodes = scene()
    one, two, three = (meet(nodes, name) for name in "abc")
    assert [nodes.table.member(port) for port in PORTS] == [one, two]
    assert "node 127.0.0.1:1 is at port 6400" in caplog.messages
    assert "the cluster has more nodes than --cluster-ports has ports: 127.0.0.1:1 has none" in caplog.messages
    assert led_to(nodes._accept_at(6401)) is two
    script = sidecar.registry.learn(COMPLETE)
    assert all(member.registry.get(script.sha) not in (None, script) for member in (one, two, three))
    caplog.clear()
    nodes.dismiss(one)
    assert led_to(nodes._accept_at(6400)) is three
    assert caplog.messages == ["node 127.0.0.1:1 is gone", "node 127.0.0.1:1 is at port 6400"]
    nodes.dismiss(two)
    assert led_to(nodes._accept_at(6401)) is None
    await sidecar.background.end()
    await nodes.close()


async def test_whoever_comes_to_the_sidecar_s_own_port_is_led_to_all_nodes() -> None:
    """By routes that follow the views of the cluster."""
    sidecar, nodes = scene(sweep_seconds=0)
    client = nodes.accept()
    assert isinstance(client, RoutedDownstream)
    one = meet(nodes, "a")
    nodes.viewed(View((cast("ClusterNode", one.node),)))
    owner = nodes._routes.owner(5)
    assert owner is not None
    assert owner.shared is nodes._sessions[one]
    assert nodes._routes.owner(6) is None
    await sidecar.background.end()


async def test_without_ports_for_nodes_all_are_called_by_the_sidecar_s_own(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is said of ports."""
    caplog.set_level(logging.INFO)
    sidecar = make_sidecar(f"redis+cluster://127.0.0.1:{free_port()}", sweep_seconds=0)
    assert sidecar.nodes is not None
    async with sidecar.nodes.listening(Address("127.0.0.1", 6380), sidecar._node_listener):
        one = meet(sidecar.nodes, "a")
        assert sidecar.nodes.table.port(one) == 6380
    await sidecar.background.end()
    await sidecar.nodes.close()
    assert not any("port" in message for message in caplog.messages if "node" in message)


async def test_it_is_ready_while_a_master_answers() -> None:
    """And says otherwise why not."""
    sidecar, nodes = scene(sweep_seconds=0)
    assert sidecar.upstream_problem == nodes.problem == "no node of the cluster has answered yet"
    one = meet(nodes, "a", slots=False)
    assert nodes.problem == "no node serves a slot"
    one.node = ClusterNode("a", "127.0.0.1", 1, slots=((0, 5),))
    assert nodes.problem == ""
    one.control.problem = "away"
    assert nodes.problem == "no master answers: away"
    await sidecar.background.end()


async def test_masters_are_swept_and_replicas_are_not() -> None:
    """Also when they change their roles."""
    sidecar, nodes = scene()
    one, two = meet(nodes, "a"), meet(nodes, "b", slots=False)
    view = View(())
    nodes.viewed(view)
    (sweeper,) = sidecar.sweepers
    nodes.viewed(view)
    assert sidecar.sweepers == [sweeper]
    one.node, two.node = two.node, one.node
    nodes.viewed(view)
    (other,) = sidecar.sweepers
    assert other is not sweeper
    nodes.dismiss(two)
    assert sidecar.sweepers == []
    await asyncio.sleep(0)
    await sidecar.background.end()
    await nodes.close()


async def test_without_a_sweeper_nothing_is_swept() -> None:
    """As with one Redis."""
    sidecar, nodes = scene(sweep_seconds=0)
    meet(nodes, "a")
    nodes.viewed(View(()))
    assert sidecar.sweepers == []
    await sidecar.background.end()


async def test_every_node_decides_by_the_policy_in_force() -> None:
    """Those that come later too."""
    sidecar, nodes = scene(sweep_seconds=0)
    one = meet(nodes, "a")
    sidecar.in_force.pause(paused=True)
    two = meet(nodes, "b")
    for member in (one, two):
        assert nodes._sessions[member].rewriter.policy.mode is Mode.SHADOW
    await sidecar.background.end()


async def test_a_wrapper_is_told_once_and_each_failure() -> None:
    """However many nodes there are."""
    sidecar, nodes = scene(sweep_seconds=0)
    script, node = sidecar.registry.learn(COMPLETE), nodes._observer(sidecar.endpoint)
    for told in (activated(script), activated(script), activated(script, "NOPERM"), activated(script, "NOPERM")):
        nodes._tell_activated(node, told)
    assert sidecar.telemetry.activations.total() == 3


def test_what_could_not_be_renamed_is_counted_and_told_at_times(caplog: pytest.LogCaptureFixture) -> None:
    """Each reason."""
    _, nodes = scene()
    for _ in range(3):
        nodes._directory.refused("too long")
    assert nodes.faults == 3
    assert caplog.messages == ["a client could not be told where the nodes are: too long"]


async def test_its_ports_listen_while_it_runs() -> None:
    """One that is taken is an error at the start, and the others are given up."""
    first = free_port()
    sidecar = make_sidecar(
        f"redis+cluster://127.0.0.1:{free_port()}", cluster_ports=range(first, first + 1), drain_seconds=0.1
    )
    async with sidecar.running():
        _, writer = await asyncio.open_connection("127.0.0.1", first)
        writer.close()
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", first)
    other = make_sidecar(
        f"redis+cluster://127.0.0.1:{free_port()}", cluster_ports=range(first, first + 1), drain_seconds=0.1
    )
    with pytest.raises(OSError, match=f"cannot listen at 127.0.0.1:{first}"):
        async with other.running():
            pass
    taken.close()


async def test_the_status_has_each_node_and_what_is_loaded_where() -> None:
    """And how many nodes have no port."""
    sidecar, nodes = scene(sweep_seconds=0)
    one, _, _ = meet(nodes, "a"), meet(nodes, "b", slots=False), meet(nodes, "c", slots=False)
    script = sidecar.registry.learn(COMPLETE)
    one.registry.activated(one.registry.as_here(script))
    upstream = overview(sidecar)["upstream"]
    assert [node["id"] for node in upstream["nodes"]] == ["a", "b", "c"]
    assert upstream["portless"] == 1
    (told,) = wrappers(sidecar)["wrappers"]
    assert (told["status"], told["loaded_in"]) == ("active", ["127.0.0.1:1"])
    await sidecar.background.end()
