"""Checks a cluster: its nodes and their roles, its slots, what each server says of itself, and what a sidecar needs.

Changes nothing.

Invariant: a node that cannot be asked is a finding, and keeps none of the others from being asked.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from asynq_ttl.existing_keys.clients import node_client
from asynq_ttl.existing_keys.cluster.database import ClusterDatabase
from asynq_ttl.existing_keys.cluster.masters import Masters
from asynq_ttl.existing_keys.cluster.walk import ranges_of
from asynq_ttl.existing_keys.doctor import clients, clock, server_info
from asynq_ttl.existing_keys.doctor.refusals import unless_refused
from asynq_ttl.existing_keys.findings import Finding, Severity
from asynq_ttl.net.address import Address
from asynq_ttl.policy.rules import Policy
from asynq_ttl.wire.cluster.slots import SLOTS
from asynq_ttl.wire.cluster.topology import ClusterNode

_SHOWN = 5

Placed = tuple[ClusterNode, Address]
"""A node, and where it is."""


def check(database: ClusterDatabase, policy: Policy) -> Iterator[Finding]:
    """Make all checks of a cluster and of each of its servers.

    Args:
        database: the cluster, whose masters have been found.
        policy: the policy that is to be in force.
    """
    placed = database.masters.placed()
    yield from check_nodes(placed)
    yield from check_slots(database.masters)
    found: list[tuple[str, Finding]] = []
    away, connected = [], list[clients.Client]()
    for _, address in placed:
        try:
            with node_client(database.upstream, address) as client:
                found += [(str(address), finding) for finding in _check_node(client, policy, connected)]
                if database.upstream.tls:
                    found += [(str(address), finding) for finding in _check_tls(client)]
        except (RedisError, OSError) as error:
            away.append(f"{address}: {' '.join(str(error).split()) or type(error).__name__}")
    if away:
        what = "nodes of the cluster cannot be asked"
        why = "what they have was not looked at; a client that needs one of them gets CLUSTERDOWN from the sidecar"
        advice = "see to them; the sidecar has to reach each node where the cluster says that it is"
        yield Finding("cluster-away", Severity.WARNING, what, why, advice, len(away), away)
    yield from alike(found, len(placed) - len(away))
    if connected:
        yield clients.check_listed(connected)


def check_nodes(placed: Sequence[Placed]) -> Iterator[Finding]:
    """Say which nodes there are, whether each master has a replica, and how many ports a sidecar needs for them."""
    masters = [(node, address) for node, address in placed if node.slots]
    replicas = [node for node, _ in placed if node.master]
    what = f"the cluster has {len(placed)} nodes, {len(masters)} of them masters and {len(replicas)} replicas"
    where = {node.id: address for node, address in placed}
    lines = [_line(node, address, where) for node, address in placed]
    yield Finding("cluster", Severity.FINE, what, "", "", examples=lines)
    followed = {node.master for node in replicas}
    alone = [str(address) for node, address in masters if node.id not in followed]
    if alone:
        why = "if such a master dies, its queues are away until it is back"
        what = "masters have no replica"
        yield Finding("cluster-replicas", Severity.WARNING, what, why, "add one to each", len(alone), alone[:_SHOWN])
    what = f"a sidecar needs a port for each of {len(placed)} nodes: --cluster-ports FROM-TO with {len(placed)} or more"
    yield Finding("cluster-ports", Severity.FINE, what, "replicas need one too, and nodes to come", "")


def check_slots(masters: Masters) -> Iterator[Finding]:
    """Say whether each slot is served by a master, and which are on their way."""
    bare = [slot for slot in range(SLOTS) if masters.owner(slot) is None]
    if bare:
        what, why = f"no node serves the slots {ranges_of(bare)}", "queues in them cannot be used"
        yield Finding("cluster-slots", Severity.DANGER, what, why, "redis-cli --cluster fix")
    moving = [slot for master in masters.readable() for slot in master.slots - master.settled]
    if moving:
        what = f"slots are on their way to another node: {ranges_of(moving)}"
        why = "sweeper and tools leave their queues alone until they have arrived"
        advice = "if nobody is moving them, redis-cli --cluster fix"
        yield Finding("cluster-slots", Severity.NOTICE, what, why, advice)
    if not bare and not moving:
        yield Finding("cluster-slots", Severity.FINE, f"all {SLOTS:,} slots are served, and none is on its way", "", "")


def check_read(database: ClusterDatabase) -> Iterator[Finding]:
    """Say, after all other checks, what of the tasks was not looked at."""
    left_out = database.left_out
    if left_out.unread:
        what, why = "masters cannot be read", "findings about rights, tasks and policy are about the others alone"
        advice = "see to them, then run doctor again"
        yield Finding("cluster-unread", Severity.WARNING, what, why, advice, len(left_out.unread), left_out.unread)
    if left_out.moving:
        what, why = "queues were left alone", "their slots are on their way to another node"
        advice = "run doctor again once they have arrived"
        shown = left_out.moving[:_SHOWN]
        yield Finding("cluster-moving", Severity.NOTICE, what, why, advice, len(left_out.moving), shown)


def alike(found: Sequence[tuple[str, Finding]], nodes: int) -> Iterator[Finding]:
    """Yield what was found at nodes: what was found at all of them once, all else with the names of the nodes.

    Args:
        found: the name of a node, and what was found there.
        nodes: how many nodes there are.
    """
    by_text: dict[tuple[Any, ...], tuple[Finding, list[str]]] = {}
    for node, finding in found:
        key = (finding.code, finding.severity, finding.what, finding.why, finding.advice)
        by_text.setdefault(key, (finding, []))[1].append(node)
    for finding, names in by_text.values():
        shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
        where = f"all {nodes} nodes" if len(names) == nodes else shown
        what, why, advice = f"{where}: {finding.what}", finding.why, finding.advice
        yield Finding(finding.code, finding.severity, what, why, advice, finding.count, finding.examples)


def _check_node(client: Redis, policy: Policy, connected: list[clients.Client]) -> Iterator[Finding]:
    """Check one server; its clients are added to those of the others."""
    try:
        info = dict(client.info("everything"))
    except ResponseError:
        info = {}
    yield from server_info.check(info, of_cluster=True)
    yield from unless_refused(
        "clock", "the clocks were not compared", lambda: [clock.check(client, policy.grace_seconds)]
    )
    listed = clients.listed(client, int(info.get("connected_clients", 0)))
    if isinstance(listed, Finding):
        yield listed
    else:
        connected += listed


def _check_tls(client: Redis) -> Iterator[Finding]:
    try:
        told: Any = client.config_get("tls-cluster")
    except ResponseError:
        return  # most users have no right to ask that
    if told.get("tls-cluster") == "no":
        what = "tls-cluster is no"
        why = "such a node may name ports without TLS, where the sidecar speaks TLS"
        yield Finding("cluster-tls", Severity.WARNING, what, why, "set tls-cluster yes at each node")


def _line(node: ClusterNode, address: Address, where: dict[str, Address]) -> str:
    """Return a node in words: where it is, and its role."""
    if node.master:
        role = f"a replica of {where.get(node.master, node.master)}"
    else:
        slots = ",".join(f"{first}-{last}" for first, last in node.slots)
        role = f"a master with the slots {slots}" if slots else "a master without slots"
    return f"{address} is {role}" + (", and seems dead" if node.seems_dead else "")
