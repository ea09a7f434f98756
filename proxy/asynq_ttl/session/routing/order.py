"""In which order one client's commands go to the nodes of a cluster, and over which connections. Pure.

It must not know what a command is: what is to be done with one, `lead` says, and for one that a node has refused,
`remedy`.

Invariants:

* A command goes when all before it are answered, or are under way at the same node.
* What could not be sent waits, and is tried again for as long as its patience lasts; then it is answered with an error.
* A client that sends nothing more waits for nobody: as Redis hangs up on it, what it waits for stays for others.
* Where a connection is lost that owes a reply, everything ends: nobody knows whether the command was executed.
"""

from collections.abc import Callable, Sequence

from asynq_ttl.session.routing.backlog import Backlog
from asynq_ttl.session.routing.destinations import Role
from asynq_ttl.session.routing.errand import ANY, Errand
from asynq_ttl.session.routing.flight import Flight
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.session.routing.leaving import Leaving
from asynq_ttl.session.routing.nodes import Node, Nodes, Outside
from asynq_ttl.wire.commands import encode

_ASKING = encode([b"ASKING"])
_UNSERVED = b"-CLUSTERDOWN asynq-ttl: no node of the cluster serves this\r\n"


class Order:
    """The commands of one client.

    Args:
        nodes: who knows the nodes.
        outside: who has the connections.
        clock: nanoseconds since the epoch.
        lead: does with the next command what can be done now; says whether that was anything.
        deliver: gives the client a piece of a reply or a push, and is told whether a reply has ended.
        remedy: as for `Flight`.
        greet: returns what is said at the beginning of each connection.
        needed: says whether the client cannot go on without a lane.
    """

    __slots__ = (
        "_activating", "_clock", "_deliver", "_ends", "_greet", "_host", "_lanes", "_lead", "_needed", "_nodes",
        "_outside", "_waits", "flight", "leaving", "over", "pinned", "todo",
    )  # fmt: skip

    def __init__(
        self,
        nodes: Nodes,
        outside: Outside,
        clock: Callable[[], int],
        *,
        lead: Callable[[Errand], bool],
        deliver: Callable[[bytes, bool], None],
        remedy: Callable[[Errand, Lane, bytes], bytes | None],
        greet: Callable[[], Sequence[Errand]],
        needed: Callable[[Lane], bool],
    ) -> None:
        self.over = False
        """Whether nothing more is done."""
        self.todo = Backlog()
        """What was not sent yet, and what is answered but not yet in its turn."""
        self.flight = Flight(deliver, remedy)
        self.leaving = Leaving(self.flight, outside, needed)
        """How it ends once nothing more comes."""
        self.pinned: Lane | None = None
        """The one that the client has for good."""
        self._nodes = nodes
        self._outside = outside
        self._clock = clock
        self._lead = lead
        self._deliver = deliver
        self._greet = greet
        self._needed = needed
        self._host = b""
        self._lanes: dict[Node | None, Lane] = {}
        self._activating: Lane | None = None
        # Whether somebody outside has to call first; whether nothing more comes.
        self._waits = self._ends = False

    def tell_host(self, host: bytes) -> None:
        """Take note of the host that this client is told."""
        self._host = host

    def advance(self) -> None:
        """Do with what waits whatever can be done now."""
        if (lane := self.leaving.left()) is not None and self._lanes.get(lane.node) is lane:
            self.drop(lane)
        while self.todo and not self._waits and not self.over:
            errand = self.todo[0]
            if self.pinned is not None:
                self._send(self.pinned, self.pinned.say(self.todo.popleft().data))
            elif errand.reply:
                if self.flight:
                    break
                self._give(self.todo.popleft())
            elif errand.pausing:
                errand.rest()
                self._waits = True
                self._outside.wait()
            elif not self._lead(errand):
                break
        if not self.over:
            self.todo.weigh(self._outside.hold)
        if not self.over and self.leaving.is_over(self.todo):
            self.hang_up()

    def send_at_once(self, data: bytes, slot: int) -> bool:
        """Send a command to the master of its slot, if nothing waits; return whether it was sent."""
        if self.todo or self._waits or self.pinned is not None or self.over:
            return False
        lane = self._lanes.get(self._nodes.owner(slot))
        if lane is None or not self.flight.start(data, slot, lane):
            return False
        self._send(lane, lane.say(data))
        return True

    def go(self, errand: Errand) -> bool:
        """Send the next command to its node, if it may go now; return whether anything was done."""
        lane = self.reach(errand)
        if lane is not None:
            self._put(self.todo.popleft(), lane)
        return lane is not None or bool(errand.reply)

    def reach(self, errand: Errand) -> Lane | None:
        """Return the lane of the next command, if it may go now; have it opened where it is not."""
        node = errand.node or self._node_of(errand.slot)
        if node is None:
            self.trouble(errand, _UNSERVED)
            return None
        lane = self._lanes.get(node)
        if lane is None and self.flight.takes(errand, None):
            self._waits = True
            self._outside.open(node)
        return lane if self.flight.takes(errand, lane) else None

    def trouble(self, errand: Errand, reply: bytes) -> None:
        """Let a command that cannot be sent wait for a moment; once it has waited for long, answer it with this."""
        self._nodes.look()
        if errand.in_time(self._clock()):
            errand.rest()
            self._waits = True
            self._outside.wait()
        else:
            errand.answer(reply)

    def pin_to(self, errand: Errand) -> bool:
        """Let all that comes, from the next command on, go over its lane as it comes."""
        if self.flight:
            return False
        self.pinned = self.reach(errand)
        return self.pinned is not None or bool(errand.reply)

    def drop(self, lane: Lane) -> None:
        """Close a connection from which nothing is expected."""
        del self._lanes[lane.node]
        lane.close()
        self._outside.drop(lane.node)

    def drop_others(self) -> None:
        """Close all connections but the one that the latest command went over."""
        for lane in [lane for lane in self._lanes.values() if lane is not self.flight.lane]:
            self.drop(lane)

    def hang_up(self) -> None:
        """End the conversation."""
        if not self.over:
            self.over = True
            self._outside.hang_up()

    def close(self) -> None:
        """Hold nothing any more."""
        self.over = True
        self.todo.clear()
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()

    def end(self, *, gone: bool) -> None:
        """Take note that the client sends nothing more; if it is gone, nobody waits for replies."""
        self._ends = True
        self.leaving.begin(gone=gone)
        self.advance()

    def opened(self, node: Node) -> None:
        """Take note that a node is connected to, and say what is said at the beginning of a connection."""
        self._waits = False
        lane = self._lanes[node] = Lane(node, self._nodes.directory, self._host)
        for errand in self._greet():
            self._put(errand, lane)
        self.advance()

    def failed(self, reason: str) -> None:
        """Take note that the node could not be connected to that the next command goes to."""
        self._waits = False
        if self.todo:
            errand = self.todo[0]
            errand.sent_on(None, asking=False)
            self.trouble(errand, b"-CLUSTERDOWN asynq-ttl: " + " ".join(reason.split()).encode() + b"\r\n")
        self.advance()

    def lost(self, node: Node) -> None:
        """Take note that a connection has ended."""
        lane = self._lanes.pop(node, None)
        if lane is not None:
            lane.close()
            if self._is_needed(lane):
                self.hang_up()

    def left(self, node: Node, *, dead: bool) -> None:
        """Take note that a node serves nothing any more; of one that is dead no reply will ever come."""
        lane = self._lanes.get(node)
        if lane is None or self.over:
            return
        if not self._is_needed(lane):
            self.drop(lane)
        elif dead:
            self.hang_up()

    def _is_needed(self, lane: Lane) -> bool:
        owes = lane is self.flight.lane and bool(self.flight)
        return owes or lane in (self.pinned, self._activating) or self._needed(lane)

    def go_on(self) -> None:
        """Go on after what took time outside."""
        self._waits = False
        lane, self._activating = self._activating, None
        if lane is not None and not self.over:
            self._send(lane, lane.session.resume())
        self.advance()

    def receive(self, node: Node, data: bytes) -> None:
        """Take bytes of a node."""
        lane = self._lanes.get(node)
        if lane is None or self.over:
            return
        if lane is self.pinned:
            self._outside.to_client(lane.hear(data))
            return
        if not self.flight.receive(lane, data):
            self.hang_up()
            return
        self.todo.extendleft(reversed(self.flight.settled()))
        if self.todo or self._ends:
            self.advance()

    def _node_of(self, slot: int) -> Node | None:
        """Return the master of a slot; for any slot, the node that the client was at last."""
        if slot != ANY:
            return self._nodes.owner(slot)
        lane = self.flight.lane
        return lane.node if lane is not None and lane.node in self._lanes else self._nodes.some()

    def _give(self, errand: Errand) -> None:
        if errand.taker is not None:
            errand.taker(errand.reply)
        else:
            self._deliver(errand.reply, True)  # noqa: FBT003 - a callback
        if errand.role is Role.QUIT:
            self.hang_up()

    def _put(self, errand: Errand, lane: Lane) -> None:
        out = b""
        for said in errand.before, _ASKING if errand.asking else b"":
            if said:
                self.flight.add(Errand(said, taker=_disregard), lane)
                out += lane.say(said)
        self.flight.add(errand, lane)
        self._send(lane, out + lane.say(errand.data))

    def _send(self, lane: Lane, out: bytes) -> None:
        if out:
            self._outside.send(lane.node, out)
        script = lane.session.waiting_for
        if script is not None:
            self._waits, self._activating = True, lane
            self._outside.activate(lane.node, script)


def _disregard(_reply: bytes) -> None:
    """Take a reply that says nothing new."""
