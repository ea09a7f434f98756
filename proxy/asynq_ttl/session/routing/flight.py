"""The commands of one client that are under way: all of them at one node. Pure.

Invariants:

* At any moment only one node has commands of a client. So they are executed in the order in which they were sent, and
  their replies come in that order, as with one Redis; what streams through is never held.
* A reply is held only until it is known whether its command has to go elsewhere (errors, one line), where the router
  takes it whole, and while an earlier command has to go elsewhere. What is held is bounded.
* A push goes to the client between two replies.
"""

from collections import deque
from collections.abc import Callable

from asynq_ttl.session.routing.destinations import may_block
from asynq_ttl.session.routing.errand import Errand
from asynq_ttl.session.routing.lane import Lane
from asynq_ttl.wire.replies import count_replies

# What may be under way for one client; past it the next command waits for a reply. (Security limits.)
MAX_COMMANDS = 10_000
MAX_BYTES = 4 * 1024 * 1024
# What may be held of replies; past it the client is hung up on. (Security limit.)
MAX_HELD_BYTES = 64 * 1024 * 1024
_MINUS = ord("-")


class Flight:
    """What is under way.

    Args:
        deliver: gives the client a piece of a reply or a push, and is told whether a reply has ended.
        remedy: given a command, its lane and an error, returns what the client gets; None where it goes elsewhere.
    """

    __slots__ = (
        "_bytes", "_deliver", "_elsewhere_bytes", "_errands", "_lone", "_pushes", "_remedy", "_slot", "_streams",
        "elsewhere", "lane",
    )  # fmt: skip

    def __init__(
        self, deliver: Callable[[bytes, bool], None], remedy: Callable[[Errand, Lane, bytes], bytes | None]
    ) -> None:
        self.lane: Lane | None = None
        """Where the latest command went."""
        self._deliver = deliver
        self._remedy = remedy
        self._errands: deque[Errand] = deque()
        self._bytes = 0
        # The one command that is under way, and its slot, while nothing more of it has to be known; else empty.
        self._lone = b""
        self._slot = 0
        self.elsewhere: list[Errand] = []
        """Those that have to go elsewhere, and those behind them, in order."""
        self._elsewhere_bytes = 0
        self._streams = False
        self._pushes: list[bytes] = []

    def __bool__(self) -> bool:
        """Say whether anything is under way."""
        return bool(self._lone or self._errands or self.elsewhere)

    @property
    def may_block(self) -> bool:
        """Whether the command whose reply is the next may wait for what somebody else does."""
        return may_block(self._lone or (self._errands[0].data if self._errands else b""))

    def takes(self, errand: Errand, lane: Lane | None) -> bool:
        """Say whether a command may go now, over this lane; None for one that has yet to be opened."""
        self._spell_out()
        if not (self._errands or self.elsewhere):
            return True
        room = len(self._errands) < MAX_COMMANDS and self._bytes + len(errand.data) <= MAX_BYTES
        return lane is self.lane and room and not (self.elsewhere or errand.alone or self._errands[-1].alone)

    def add(self, errand: Errand, lane: Lane) -> None:
        """Take note that a command goes."""
        self._spell_out()
        self.lane = lane
        self._errands.append(errand)
        self._bytes += len(errand.data)

    def start(self, data: bytes, slot: int, lane: Lane) -> bool:
        """Take note that a command goes of which nothing is known but its slot; return whether it may."""
        if not (self._lone or self._errands or self.elsewhere):
            self._lone, self._slot, self.lane = data, slot, lane
            return True
        errand = Errand(data, slot=slot)
        if not self.takes(errand, lane):
            return False
        self.add(errand, lane)
        return True

    def _spell_out(self) -> None:
        """Have the lone command as an errand: others come, or its reply is not a plain one."""
        if self._lone:
            self._errands.append(Errand(self._lone, slot=self._slot))
            self._bytes += len(self._lone)
            self._lone = b""

    def settled(self) -> list[Errand]:
        """Return the commands that have to go elsewhere, with those behind them, once nothing is under way."""
        if self._errands or not self.elsewhere:
            return []
        settled, self.elsewhere, self._elsewhere_bytes = self.elsewhere, [], 0
        return settled

    def receive(self, lane: Lane, data: bytes) -> bool:
        """Take bytes of a node; return False where it says what cannot be understood, or too much."""
        plain = lane is self.lane and data[0] != _MINUS and lane.counter.between and count_replies(data) == 1
        if plain and self.answered():
            self._deliver(lane.hear(data), True)  # noqa: FBT003 - a callback
            return True
        self._spell_out()
        for piece, begins, ends in lane.pieces(data):
            if begins and lane is self.lane:
                self._streams = self._may_stream(lane, piece[0])
            if self._streams and lane is self.lane:
                self._stream(lane, piece, ends=ends)
                continue
            lane.hold(piece)
            if lane.held_bytes + self._elsewhere_bytes > MAX_HELD_BYTES or lane.lost:
                return False
            if ends and not self._take(lane, lane.release()):
                return False
        return not lane.lost

    def answered(self) -> bool:
        """Take note of a whole reply that is no error; return whether it goes to the client at once, as it is."""
        if self._lone:  # nearly always
            self._lone = b""
            return True
        if self._errands and self._errands[0].taker is None and not self.elsewhere:
            self._done()
            return True
        return False

    def _may_stream(self, lane: Lane, first: int) -> bool:
        """Say whether a reply that begins with this byte goes to the client as it comes."""
        if lane.in_push or first == _MINUS or self.elsewhere or not self._errands:
            return False
        return self._errands[0].taker is None

    def _stream(self, lane: Lane, piece: bytes, *, ends: bool) -> None:
        if ends:
            self._streams = False
            self._done()
        self._deliver(lane.hear(piece), ends)
        if ends and self._pushes:
            pushes, self._pushes = self._pushes, []
            for push in pushes:
                self._deliver(push, False)  # noqa: FBT003 - a callback

    def _take(self, lane: Lane, whole: bytes) -> bool:
        """Take a whole reply or push that was held; return False where nobody has asked for it."""
        if lane.in_push:
            push = lane.hear(whole)
            if self._streams:
                self._pushes.append(push)
            else:
                self._deliver(push, False)  # noqa: FBT003 - a callback
            return len(self._pushes) <= MAX_COMMANDS
        if lane is not self.lane or not self._errands:
            return False
        errand = self._errands[0]
        instead: bytes | None = whole
        if whole[0] == _MINUS:
            instead = self._remedy(errand, lane, whole)
        self._done()
        if instead is None:
            lane.pass_over()
            self.elsewhere.append(errand)
            return True
        told = lane.hear(whole) if instead is whole else self._replaced(lane, instead)
        if errand.taker is not None:
            errand.taker(told)
        elif self.elsewhere:
            errand.answer(told)
            self.elsewhere.append(errand)
            self._elsewhere_bytes += len(told)
        else:
            self._deliver(told, True)  # noqa: FBT003 - a callback
        return True

    @staticmethod
    def _replaced(lane: Lane, instead: bytes) -> bytes:
        lane.hear(instead)
        return instead

    def _done(self) -> None:
        self._bytes -= len(self._errands.popleft().data)
