"""Follows a cluster: which nodes it has, where they are, and who serves which slot.

Each second, and at once after a client was sent elsewhere, a node is asked for its view of the cluster. Which view is
believed is said by `wire.cluster.topology`.

Invariants:

* Nodes are known by their IDs: one that has moved to another address keeps its connection for wrappers, and its port.
* A node that a believed view does not name is forgotten only after some time: the one that was asked may have met the
  others just now.
* Where nobody has confirmed what is known for long, anybody who sees most masters is believed: all nodes may have been
  replaced meanwhile.
* What goes wrong with one node keeps the others out of nothing: it is passed over.
"""

import asyncio
import itertools
import logging
import random
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from redis.asyncio import Redis
from redis.exceptions import RedisError

from asynq_ttl.net.address import Address
from asynq_ttl.rewriting.registry import ScriptRegistry
from asynq_ttl.upstream.control import ControlConnection
from asynq_ttl.upstream.endpoint import Endpoint
from asynq_ttl.wire.cluster.topology import ClusterNode, NoTopologyError, View, parse_nodes, preferred_endpoints

_log = logging.getLogger("asynq_ttl.cluster")

_POLL_SECONDS = 1.0
# After a redirection it is asked at once, but no more often than this.
_LEAST_SECONDS = 0.1
_TIMEOUT_SECONDS = 2.0
# Nodes that are asked side by side, so that one that hangs holds nobody up.
_SIDE_BY_SIDE = 2
_FORGET_SECONDS = 10.0
_UNCONFIRMED_SECONDS = 15.0


@dataclass(eq=False, slots=True)
class Member:
    """A node of the cluster, as the sidecar uses it.

    Attributes:
        id: its ID.
        endpoint: where it is.
        registry: the scripts, and how far their wrappers are there.
        control: the sidecar's own connection to it.
        node: what the last view that was believed says of it; None before that.
        seen: when a view has named it last, in seconds of a clock that never goes back.
        number: its own, counted from 1: of two members none has the same.
    """

    id: str
    endpoint: Endpoint
    registry: ScriptRegistry
    control: ControlConnection
    node: ClusterNode | None = None
    seen: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=itertools.count(1).__next__)

    @property
    def address(self) -> Address:
        """Where it is."""
        return self.endpoint.place

    def take(self, node: ClusterNode, now: float) -> None:
        """Take note of what a view that is believed says of it."""
        self.node, self.seen = node, now

    @property
    def is_master(self) -> bool:
        """Whether it serves slots."""
        return self.node is not None and bool(self.node.slots)


class Company(Protocol):
    """Who has to know the nodes."""

    def enlist(self, node_id: str, address: Address) -> Member:
        """Return a new member; what has to be done for it begins."""

    def dismiss(self, member: Member) -> None:
        """Forget a member; what was done for it ends."""

    def viewed(self, view: View) -> None:
        """Take note of a view that is believed; each of its nodes that can be connected to is a member."""


class Cluster:
    """The nodes of one cluster.

    Args:
        endpoint: its upstream names the nodes that are asked first.
        company: who has to know the nodes.
    """

    def __init__(self, endpoint: Endpoint, company: Company) -> None:
        self.members: dict[str, Member] = {}
        """The nodes by their IDs."""
        self.view: View | None = None
        """The view that was believed last."""
        self.found = asyncio.Event()
        """Set once a view has been believed."""
        self.problem = "no node of the cluster has answered yet"
        """Why it is not known which nodes there are; empty once it is, unless nobody confirms it any more."""
        self.changes = 0
        """How often slots have changed hands, or a node came or went."""
        self._endpoint = endpoint
        self._company = company
        self._endpoints: dict[str, tuple[str, int]] = {}
        self._shape: object = None
        self._confirmed = 0.0
        self._wake = asyncio.Event()
        self._asking: dict[Address, Redis] = {}

    @property
    def masters(self) -> list[Member]:
        """The members that serve slots."""
        return [member for member in self.members.values() if member.is_master]

    def meet(self, node_id: str, address: Address) -> Member:
        """Return the member with an ID, which a view that is believed has named; one that is new begins there."""
        member = self.members.get(node_id)
        if member is None:
            member = self.members[node_id] = self._company.enlist(node_id, address)
            self.changes += 1
            self.look()
        return member

    def look(self) -> None:
        """Ask for a view at once: somebody was sent to another node."""
        self._wake.set()

    async def follow(self) -> None:
        """Follow the cluster until cancelled."""
        try:
            while True:
                await self._poll()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_SECONDS):
                        await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(_LEAST_SECONDS)
        finally:
            for client in self._asking.values():
                await asyncio.shield(client.aclose())  # cancelled before its first step it would hang up on nobody
            self._asking = {}

    async def _poll(self) -> None:
        """Ask nodes until one of them is believed."""
        asked = self._candidates()
        while nodes := list(itertools.islice(asked, _SIDE_BY_SIDE)):
            answers = await asyncio.gather(*map(self._ask, nodes))
            for address, answer in zip(nodes, answers, strict=True):
                if isinstance(answer, View) and answer.beats(self._known()):
                    await self._believe(answer, address)
                    return
            self._note(answers)

    def _known(self) -> View | None:
        """Return what is known; None where nobody has confirmed it for long."""
        confirmed = time.monotonic() - self._confirmed < _UNCONFIRMED_SECONDS
        return self.view if confirmed else None

    def _note(self, answers: Iterable[View | str]) -> None:
        """Take note of why nobody is believed."""
        if self._known() is None:
            faults = [answer for answer in answers if isinstance(answer, str)]
            self.problem = faults[0] if faults else "no node of the cluster sees most of its masters"

    def _candidates(self) -> Iterable[Address]:
        """Yield the nodes to ask: those that answer first, in any order, and then those that the operator named."""
        members = list(self.members.values())
        random.shuffle(members)
        members.sort(key=lambda member: bool(member.control.problem))
        named = self._endpoint.upstream.nodes
        return iter(dict.fromkeys([*(member.address for member in members), *named]))

    async def _ask(self, address: Address) -> View | str:
        """Return a node's view, or why there is none."""
        try:
            return parse_nodes(_text(await self._client(address).execute_command("CLUSTER NODES")))
        except (RedisError, OSError, NoTopologyError) as error:
            return f"{address}: {str(error) or type(error).__name__}"

    def _client(self, address: Address) -> Redis:
        """Return a client of a node; its replies are as the node gives them."""
        client = self._asking.get(address)
        if client is None:
            client = self._asking[address] = endpoint_at(self._endpoint, address).redis(
                max_connections=1,
                timeout=_TIMEOUT_SECONDS,
                socket_timeout=_TIMEOUT_SECONDS,
                socket_connect_timeout=_TIMEOUT_SECONDS,
            )
            client.response_callbacks.clear()
        return client

    async def _believe(self, view: View, source: Address) -> None:
        """Follow a view."""
        now = self._confirmed = time.monotonic()
        there = [node for node in view.nodes if node.is_there]
        shape = {(node.id, node.host, node.port, node.hostname, bool(node.slots or node.master)) for node in there}
        if shape != self._shape and await self._ask_endpoints(source):
            self._shape = shape
        for node in there:
            address = self._address_of(node, source)
            member = self.meet(node.id, address)
            member.take(node, now)
            if member.endpoint.address != address:
                await member.endpoint.moved(address)
        for member in [each for each in self.members.values() if now - each.seen > _FORGET_SECONDS]:
            del self.members[member.id]
            self._company.dismiss(member)
        await self._forget_clients()
        self._take(view)

    def _take(self, view: View) -> None:
        self.changes += self.view is None or _owners(self.view) != _owners(view)
        if not self.found.is_set():
            _log.info("%s has %d nodes, %d of them masters", self._endpoint, len(self.members), len(self.masters))
        self.view, self.problem = view, ""
        self._company.viewed(view)
        self.found.set()

    def _address_of(self, node: ClusterNode, source: Address) -> Address:
        """Return where clients are to connect to a node. One without an address is where the one that was asked is."""
        host, port = self._endpoints.get(node.id, (node.host, node.port))
        return Address(host or source.host, port or node.port)

    async def _ask_endpoints(self, source: Address) -> bool:
        """Ask where clients are to connect to nodes; say whether that was told."""
        try:
            slots: Any = await self._client(source).execute_command("CLUSTER SLOTS")
            self._endpoints = preferred_endpoints(slots)
        except (RedisError, OSError, NoTopologyError) as error:
            _log.warning("%s does not say where clients are to connect: %s", source, error)
            return False
        return True

    async def _forget_clients(self) -> None:
        """Close what was asked and is no longer there."""
        wanted = {member.address for member in self.members.values()} | set(self._endpoint.upstream.nodes)
        for address in [address for address in self._asking if address not in wanted]:
            await asyncio.shield(self._asking.pop(address).aclose())


def endpoint_at(endpoint: Endpoint, address: Address) -> Endpoint:
    """Return the endpoint of one node, with all else as it is for the cluster."""
    return endpoint.at(replace(endpoint.upstream, address=address, nodes=()))


def _owners(view: View) -> list[tuple[str, tuple[tuple[int, int], ...]]]:
    return sorted((node.id, node.slots) for node in view.masters())


def _text(reply: Any) -> str:  # noqa: ANN401 - replies have any shape
    return reply.decode("latin-1") if isinstance(reply, bytes) else str(reply)
