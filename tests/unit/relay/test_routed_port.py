"""The connections of a client to several nodes: they come and go with it, and hold each other up."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asynq_ttl.events import FIRST_MARK
from asynq_ttl.policy.glob import compile_glob
from asynq_ttl.policy.rules import Keep, Retention, Rule
from asynq_ttl.relay import forwarding
from asynq_ttl.relay.connection import Downstream
from asynq_ttl.relay.forwarding import Pause
from asynq_ttl.relay.relay import Relay
from asynq_ttl.relay.routed_port import NodeConnection, RoutedDownstream, RoutedUpstream
from asynq_ttl.rewriting.registry import sha_of
from asynq_ttl.session.routing.flight import Flight
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.order import Order
from asynq_ttl.session.routing.router import Router
from asynq_ttl.session.session import Session
from asynq_ttl.wire.cluster.slots import SLOTS
from asynq_ttl.wire.cluster.topology import ClusterNode, View
from asynq_ttl.wire.commands import HOLD_BYTES, encode
from support.conversation import MESSAGE, WEEK, Conversation, complete, dequeue
from support.relayed import Upstream, connected
from support.resp_pieces import CHUNKS
from support.routed_scene import Scene
from support.small_scripts import COMPLETE, DEQUEUE, ENQUEUE, OTHER
from support.uncompiled import uncompiled

OK = b"+OK\r\n"
A, B = encode([b"GET", b"b"]), encode([b"GET", b"a"])  # the key `b` is at node 0, `a` at node 1


@pytest.fixture
async def scene() -> Scene:
    """A client that has connected."""
    relay, *_ = await connected()
    scene = Scene(relay)
    await scene.begin()
    return scene


async def test_a_client_has_a_connection_to_each_node_that_it_needs(scene: Scene) -> None:
    """Opened when a command goes there; they all end with its own."""
    assert [len(node.wires) for node in scene.nodes] == [0, 0]
    assert scene.client.idle
    await scene.sends(A)
    assert scene.sent(0) == A
    assert scene.client.awaits_reply
    scene.replies(0, OK)
    await scene.sends(B, A)
    scene.replies(1, OK)
    scene.replies(0, b"$-1\r\n")
    assert scene.wire.written == OK + OK + b"$-1\r\n"
    assert [len(node.wires) for node in scene.nodes] == [1, 1]
    assert scene.relay.commands == 3
    assert scene.client.idle
    scene.client.connection_lost(None)
    await scene.work()
    assert [node.wires[0].closed for node in scene.nodes] == [True, True]
    assert scene.client not in scene.relay.connections
    assert scene.relay.commands == 3


async def test_a_node_out_of_reach_is_tried_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a moment; the reason is told in the end, once."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._MOMENT_SECONDS", 0.001)
    scene.nodes[0].fault = TimeoutError()
    scene.client.data_received(A)
    await asyncio.gather(*scene.relay.tasks)
    scene.nodes[0].fault = ConnectionRefusedError(111, "Connection refused")
    scene.talk.now_ns += 6_000_000_000
    while not scene.wire.written:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    where = b"node 127.0.0.1:6379 is unavailable: Connection refused"
    assert scene.wire.written == b"-CLUSTERDOWN asynq-ttl: " + where + b"\r\n"
    assert scene.client.idle


async def test_a_connection_that_ends_at_once_is_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again as well."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._MOMENT_SECONDS", 0.001)
    opened = Upstream.open

    async def open_and_lose(self: Upstream, factory: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        protocol = await opened(self, factory)
        protocol.connection_lost(None)
        monkeypatch.setattr(Upstream, "open", opened)
        return protocol

    monkeypatch.setattr(Upstream, "open", open_and_lose)
    await scene.sends(A)
    while len(scene.nodes[0].wires) < 2:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    await scene.work()
    assert scene.sent(0) == A


async def test_a_wrapper_is_loaded_into_the_node_first(scene: Scene) -> None:
    """The call waits for that."""
    script = scene.talk.registry.learn(COMPLETE)
    await scene.sends(encode(list(complete(script.sha))))
    sent = next(node for node in scene.nodes if node.wires).wires[0].written
    assert script.wrapper_sha in sent


async def test_a_node_that_owes_a_reply_ends_the_client(scene: Scene) -> None:
    """One that owes none does not."""
    await scene.sends(A)
    scene.replies(0, OK)
    scene.nodes[0].protocols[0].connection_lost(None)
    assert not scene.wire.closed
    await scene.sends(A)
    scene.nodes[0].protocols[1].connection_lost(None)
    await scene.work()
    assert scene.wire.closed
    assert scene.client not in scene.relay.connections
    scene.nodes[0].protocols[0].connection_lost(None)
    scene.replies(0, OK)
    assert scene.wire.written == OK


async def test_back_pressure_goes_both_ways(scene: Scene) -> None:
    """Also to a connection that was opened meanwhile."""
    await scene.sends(A)
    scene.replies(0, OK)
    scene.client.pause_writing()
    await scene.sends(B)
    assert [node.wires[0].reading for node in scene.nodes] == [False, False]
    scene.client.resume_writing()
    assert [node.wires[0].reading for node in scene.nodes] == [True, True]
    scene.nodes[1].protocols[0].pause_writing()
    assert not scene.wire.reading
    scene.nodes[1].protocols[0].resume_writing()
    assert scene.wire.reading
    scene.nodes[1].protocols[0].pause_writing()
    scene.nodes[1].protocols[0].connection_lost(None)
    assert scene.wire.reading


async def test_a_client_that_sends_much_is_not_read_from(scene: Scene) -> None:
    """While a node is waited for."""
    scene.client.data_received(A * 1_001)
    assert Pause.WAITING in scene.client._pauses
    await scene.work()
    assert Pause.WAITING not in scene.client._pauses


async def test_the_end_of_a_client_s_commands(scene: Scene) -> None:
    """It gets its replies, then it is hung up on."""
    await scene.sends(A)
    scene.client.eof_received()
    await scene.work()
    assert not scene.wire.closed
    scene.replies(0, OK)
    await scene.work()
    assert scene.wire.closed
    assert scene.wire.written == OK


async def test_hanging_up_ends_all_connections(scene: Scene) -> None:
    """One that is being opened too; a connection that was dropped is gone."""
    await scene.sends(encode([b"AUTH", b"p"]))
    first = next(node for node in scene.nodes if node.wires)
    first.protocols[0].data_received(OK)
    scene.client.data_received(A)
    scene.client.data_received(B)
    scene.client.hang_up()
    await scene.work()
    assert scene.wire.closed
    assert all(wire.closed for node in scene.nodes for wire in node.wires)


async def test_a_client_that_goes_while_a_node_is_connected_to(scene: Scene) -> None:
    """That connection is given up, and nothing more is said to the client."""
    scene.client.data_received(A)
    scene.client.hang_up()
    scene.client.upstream.to_client(OK)
    await scene.work()
    assert scene.nodes[0].wires[0].closed
    assert scene.wire.written == b""


async def test_what_a_client_that_is_gone_has_sent(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has some time to go on its way: what was sent before may block for ever."""
    monkeypatch.setattr("asynq_ttl.relay.routed_port._LAST_SECONDS", 0.001)
    await scene.sends(encode([b"BLPOP", b"b", b"0"]), B)
    scene.client.connection_lost(None)
    while scene.relay.connections & {scene.client}:  # noqa: ASYNC110 - a moment is not told of
        await asyncio.sleep(0.001)
    assert scene.nodes[0].wires[0].closed


async def test_a_connection_is_closed_where_the_client_says_something_of_its_own(scene: Scene) -> None:
    """At another node."""
    await scene.sends(A)
    scene.replies(0, OK)
    await scene.sends(B)
    scene.replies(1, OK)
    await scene.sends(encode([b"CLIENT", b"SETNAME", b"x"]))
    scene.replies(1, OK)
    assert scene.nodes[0].wires[0].closed
    scene.nodes[0].protocols[0].connection_lost(None)
    assert not scene.wire.closed


async def test_a_node_that_serves_nothing_any_more_is_left(scene: Scene) -> None:
    """By every client."""
    await scene.sends(A)
    scene.replies(0, OK)
    one, two = scene.view.nodes
    scene.routes.viewed(View((ClusterNode("0", "h", 1), two)))
    assert scene.nodes[0].wires[0].closed
    assert not scene.wire.closed
    assert one.slots


async def test_a_client_is_told_the_host_that_it_knows(scene: Scene) -> None:
    """For all nodes, at the port of the sidecar."""
    await scene.sends(encode([b"SUBSCRIBE", b"x"]))
    node = next(node for node in scene.nodes if node.wires)
    node.protocols[0].data_received(b"-MOVED 5 127.0.0.1:6379\r\n")
    assert scene.wire.written == b"-MOVED 5 192.0.2.1:6380\r\n"


# --- the compiled part ----------------------------------------------------------------------------------------------

PLAIN = uncompiled(forwarding, "asynq_ttl.relay._forwarding")


@pytest.mark.compiled
def test_the_compiled_part_is_there() -> None:
    """It is tested here, so it has to be built here."""
    assert RoutedDownstream.data_received is not Downstream.data_received
    assert RoutedUpstream.node_received is not RoutedUpstream.take_reply


def test_without_it_python_does_it_all() -> None:
    """The classes stay as they are."""

    class Client(RoutedDownstream):
        pass

    class Side(RoutedUpstream):
        node_received = RoutedUpstream.take_reply

    PLAIN.route(Client, Side, unusual=frozenset())
    assert Client.data_received is RoutedDownstream.data_received
    assert Side.node_received is RoutedUpstream.take_reply


@pytest.mark.compiled
@pytest.mark.parametrize("given", [(), (Client := type("Client", (), {}),) * 8, (1,) * 8])
def test_only_attributes_in_slots_are_looked_at(given: tuple[type, ...]) -> None:
    """Of eight classes. Others are refused at the start."""
    with pytest.raises((AttributeError, TypeError)):
        forwarding.route(*given, unusual=frozenset())


RULES = Rule("replace", queues=(compile_glob("r"),), archived=Retention(Keep.TTL, 60, replaceable=True)), WEEK
POLL, ENDING = encode(dequeue(sha_of(DEQUEUE))), encode(complete(sha_of(COMPLETE)))
REPLACING = encode((b"EVALSHA", sha_of(ENQUEUE), b"2", b"asynq:{r}:t:1", b"asynq:{r}:pending", MESSAGE, b"1"))
UNTOUCHED, UNSEEN = (encode((b"EVALSHA", sha, b"1", b"asynq:{q}:t:1")) for sha in (sha_of(OTHER), b"d" * 40))


class Twin(Scene):
    """One of two clients to which the same happens; of one the compiled part sees no chunk."""

    def __init__(self, relay: Relay, *, compiled: bool) -> None:
        talk = Conversation(*RULES).knows(COMPLETE, DEQUEUE, ENQUEUE)
        talk.registry.learn(OTHER)
        super().__init__(relay, talk)
        self._compiled = compiled
        self.told: list[object] = []

    @classmethod
    async def new(cls, *, compiled: bool) -> "Twin":
        """Connect a client that has a connection to each node."""
        relay, *_ = await connected()
        twin = cls(relay, compiled=compiled)
        await twin.begin()
        for chunk, node in ((A, 0), (B, 1)):
            await twin.sends(chunk)
            twin.replies(node, OK)
        return twin

    def from_client(self, data: bytes) -> None:
        """Let the client send bytes."""
        (self.client.data_received if self._compiled else self.client.pass_on)(data)

    def from_node(self, node: int, data: bytes, connection: int = -1) -> None:
        """Let a node send bytes over one of its connections, unless that has ended."""
        protocol = self.nodes[node].protocols[connection]
        if isinstance(protocol, NodeConnection) and not protocol.is_gone:
            if self._compiled:
                protocol.data_received(data)
            else:
                self.client.upstream.take_reply(protocol._node, data)

    def answers(self, data: bytes) -> None:
        """Let the node send bytes that the client sent the latest command to."""
        lane = self.client.upstream.router.order.flight.lane
        self.from_node(int(lane is not None and lane.node is self.routes.owner(SLOTS - 1)), data)

    def loses(self, node: int) -> None:
        """Let a node hang up."""
        protocol = self.nodes[node].protocols[-1]
        if isinstance(protocol, NodeConnection) and not protocol.is_gone:
            protocol.connection_lost(None)

    def moves(self) -> None:
        """Let node 0 serve all slots, or no longer."""
        one, two = self.view.nodes
        everything = View((ClusterNode("0", "h", 1, slots=((0, SLOTS - 1),)), ClusterNode("1", "h", 1)))
        self.routes.viewed(self.view if self.routes.owner(SLOTS - 1) is self.routes.owner(0) else everything)
        assert one.slots != two.slots

    def state(self) -> tuple[object, ...]:
        """Return all that can be seen of it, and what is under way."""
        router, traffic, flight = (
            self.client.upstream.router,
            self.relay.traffic,
            self.client.upstream.router.order.flight,
        )
        order = router.order
        wires = [self.wire, *(wire for node in self.nodes for wire in node.wires)]
        lane = -1 if flight.lane is None else int(flight.lane.node is self.routes.owner(0))
        lanes = [(each.session.commands, each.session.replies, each.held_bytes) for each in order._lanes.values()]
        return (
            [(wire.written, wire.reading, wire.closed, wire.ended) for wire in wires],
            *(router.commands, router.replies, router.pending, router.busy, router.held_bytes, lane, lanes),
            *(order.over, order._waits, order.pinned is None, order._ends, [errand.data for errand in order.todo]),
            *(flight._lone, flight._slot, flight._bytes, [each.data for each in flight._errands]),
            *([each.data for each in flight.elsewhere], flight._streams, flight._pushes, self.client._pauses),
            *(traffic.bytes_from_clients, traffic.bytes_from_redis, traffic.command_due, traffic.reply_due),
            *(self.client.idle, self.client.awaits_reply, self.talk.told(), self.talk.complaints()),
        )


def a_chunk(data: bytes) -> Callable[[Twin], None]:
    """Let the client send bytes."""
    return lambda twin: twin.from_client(data)


def an_answer(data: bytes) -> Callable[[Twin], None]:
    """Let the node reply that the latest command went to."""
    return lambda twin: twin.answers(data)


def from_both(data: bytes) -> Callable[[Twin], None]:
    """Let both nodes send bytes."""

    def send(twin: Twin) -> None:
        for node in (0, 1):
            twin.from_node(node, data)

    return send


def at_once(*events: Callable[[Twin], None]) -> Callable[[Twin], None]:
    """Let some of them happen before anything is done that takes time."""

    def happen(twin: Twin) -> None:
        for event in events:
            event(twin)

    return happen


MULTI, SUBSCRIBE = encode([b"MULTI"]), encode([b"SUBSCRIBE", b"c"])
MOVED = b"-MOVED 5 127.0.0.1:6379\r\n"
SENT: list[bytes] = [
    *([A, B] * 4 + [POLL, ENDING, UNTOUCHED, UNSEEN, REPLACING]),
    *(A + A, A + B, A[:5], A[5:], b"", b"PING\r\n", encode([b"SET", b"a", b"x" * HOLD_BYTES])),
    *(encode(words.split()) for words in (b"PING", b"MULTI", b"EXEC", b"WATCH a", b"SUBSCRIBE c", b"DBSIZE", b"QUIT")),
    *(encode(words.split()) for words in (b"CLUSTER SLOTS", b"AUTH p", b"SCRIPT FLUSH")),
]
ANSWERS: list[bytes] = [
    *(
        OK,
        b":1\r\n",
        b"$-1\r\n",
        b"$2\r\nOK\r\n",
        b":%d\r\n" % FIRST_MARK,
        OK * 2,
        b"$2\r\nO",
        b"K\r\n",
        b"*1\r\n:1\r\n",
    ),
    *(
        b"-ERR no\r\n",
        b"-NOSCRIPT\r\n",
        b"-MOVED 5 127.0.0.1:6379\r\n",
        b"-ASK 5 127.0.0.1:6379\r\n",
        b"-TRYAGAIN x\r\n",
        b"-",
    ),
    *(b">1\r\n:1\r\n", b"|1\r\n+a\r\n:1\r\n:2\r\n", b"?", b"$65536\r\n" + b"x" * HOLD_BYTES + b"\r\n"),
]
EVENTS = st.one_of(
    st.sampled_from(SENT).map(a_chunk),
    st.lists(st.sampled_from(SENT).map(a_chunk), min_size=2, max_size=3).map(lambda events: at_once(*events)),
    st.sampled_from([OK] * 10 + ANSWERS).map(an_answer),
    st.sampled_from(ANSWERS).map(from_both),
    CHUNKS.map(a_chunk),
    st.sampled_from(
        (
            lambda twin: twin.relay.traffic.time_next(),
            lambda twin: twin.nodes[0].protocols[-1].pause_writing(),
            lambda twin: twin.nodes[0].protocols[-1].resume_writing(),
            lambda twin: twin.client.pause_writing(),
            lambda twin: twin.client.resume_writing(),
            lambda twin: twin.client.eof_received(),
            lambda twin: twin.client.connection_lost(None),
            lambda twin: twin.client.hang_up(),
            lambda twin: twin.loses(0),
            lambda twin: twin.moves(),
        )
    ),
)


@given(events=st.lists(EVENTS, max_size=12))
@example(events=[a_chunk(A), an_answer(OK), a_chunk(B), an_answer(OK), a_chunk(POLL), an_answer(OK)])
@example(events=[a_chunk(A), a_chunk(A), a_chunk(B), an_answer(OK), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(A), a_chunk(B), a_chunk(A), an_answer(OK), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(A), an_answer(b"$2\r\nO"), a_chunk(A), an_answer(b"K\r\n"), an_answer(OK)])
@example(events=[a_chunk(A), an_answer(b"$6\r\nab"), an_answer(b"+K\r\n"), an_answer(b"\r\n"), a_chunk(A)])
@example(events=[a_chunk(A), a_chunk(A), an_answer(OK + OK), a_chunk(A), an_answer(OK)])
@example(events=[a_chunk(A), from_both(b":1\r\n"), a_chunk(A), an_answer(OK)])
@example(events=[at_once(a_chunk(ENDING), a_chunk(UNTOUCHED)), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(ENDING), an_answer(OK), a_chunk(ENDING), an_answer(OK), a_chunk(A), an_answer(OK)])
@example(events=[a_chunk(REPLACING), an_answer(b":%d\r\n" % FIRST_MARK)] * 2)
@example(events=[a_chunk(encode([b"CLUSTER", b"SLOTS"])), an_answer(OK), a_chunk(A), an_answer(OK)])
@example(events=[a_chunk(SUBSCRIBE), a_chunk(A), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(A), an_answer(OK), a_chunk(SUBSCRIBE), an_answer(OK), a_chunk(A), from_both(OK)])
@example(events=[a_chunk(MULTI), a_chunk(A), an_answer(OK), an_answer(OK), a_chunk(A), a_chunk(B)])
@example(events=[a_chunk(A), lambda twin: twin.client.eof_received(), an_answer(OK)])
@example(events=[a_chunk(A), a_chunk(A), lambda twin: twin.client.eof_received(), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(A), an_answer(MOVED), a_chunk(A), an_answer(OK), an_answer(OK)])
@example(events=[a_chunk(B), a_chunk(B), an_answer(MOVED), a_chunk(B), an_answer(OK), an_answer(OK), a_chunk(B)])
@example(events=[a_chunk(B), an_answer(MOVED), an_answer(b"*0\r\n"), a_chunk(B), an_answer(OK)])
@example(events=[a_chunk(A), at_once(lambda twin: twin.loses(0), a_chunk(A)), an_answer(OK)])
@example(events=[at_once(lambda twin: twin.client.hang_up(), a_chunk(A), an_answer(OK))])
@example(events=[at_once(a_chunk(A), lambda twin: twin.client.hang_up(), an_answer(OK))])
@example(events=[at_once(a_chunk(A), lambda twin: twin.client.connection_lost(None), an_answer(OK))])
@example(events=[lambda twin: twin.moves(), a_chunk(A), an_answer(OK), a_chunk(B), an_answer(OK)])
@example(events=[lambda twin: twin.relay.traffic.time_next(), a_chunk(A), an_answer(OK)] * 2)
@example(events=[lambda twin: twin.nodes[0].protocols[-1].pause_writing(), a_chunk(A), an_answer(OK)])
@example(events=[a_chunk(A[:5]), a_chunk(A), a_chunk(A[5:]), an_answer(OK)])
def test_the_same_becomes_of_a_chunk(events: list[Callable[[Twin], None]]) -> None:
    """What is written, read, counted, held, under way and told of, after each event."""

    async def happen() -> None:
        twins = [await Twin.new(compiled=compiled) for compiled in (True, False)]
        for event in events:
            for twin in twins:
                event(twin)
                await twin.work()
            compiled, plain = (twin.state() for twin in twins)
            assert compiled == plain

    asyncio.run(happen())


ONLY_PYTHON = (
    *((Downstream, name) for name in ("pass_on", "pass_back", "upstream_received")),
    *((RoutedUpstream, name) for name in ("take_reply", "to_client", "send")),
    *((Router, name) for name in ("receive_downstream", "_deliver")),
    *((Order, name) for name in ("send_at_once", "receive", "advance", "_send")),
    *((Flight, name) for name in ("start", "receive", "answered", "takes", "_spell_out")),
    *((Lane, name) for name in ("hear", "say")),
    (Session, "receive_downstream"),
)


@pytest.mark.compiled
@pytest.mark.parametrize("chunk", [A, POLL, UNTOUCHED, UNSEEN], ids=["one", "poll", "text", "sha"])
async def test_a_usual_chunk_needs_no_python(chunk: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second time on nothing of what stands in Python is called, in either direction."""
    twin = await Twin.new(compiled=True)
    for _ in range(2):  # a poll that is decided about, and one that is remembered, after the wrapper was loaded
        await twin.sends(chunk)
        twin.answers(OK)
    before = twin.state()
    for kind, name in ONLY_PYTHON:
        monkeypatch.delattr(kind, name)
    twin.from_client(chunk)
    assert twin.client.awaits_reply
    twin.answers(b"$-1\r\n")
    assert twin.client.session.commands == twin.client.session.replies == 5
    assert twin.wire.written == OK * 4 + b"$-1\r\n"
    assert before != twin.state()
