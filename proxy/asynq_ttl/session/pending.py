"""Decisions, and changes of the database, that wait for their replies.

Redis answers in order, so a reply is told by its number: the reply to the n-th command is the n-th reply. Replies are
counted by their boundaries, never decoded.

The wrapper of an enqueue that has replaced a task replies a mark, which says by which rule. The client gets what the
script itself has replied, which is 1. This is the one reply that is changed.

Invariants:

* A decision is told once: with its reply, or without one if that cannot be told or never comes. So is a SELECT.
* No mark reaches the client: it is awaited until it has come, also where replies are not counted for anything else any
  more. What may only have been replaced is not told.
* What waits is bounded, and so is what is held: a mark that has not come whole.
"""

from collections import deque
from collections.abc import Callable

from asynq_ttl.events import FIRST_MARK, Decision, Enqueue, Observer, Outcome
from asynq_ttl.wire.replies import MAX_HEAD_BYTES, ReplyCounter, count_replies

_COLON = ord(":")
# What the scripts that end a task reply.
_OK = b"+OK\r\n"
# What the scripts that add a task reply; and what they reply where they do not.
_ADDED = b":1\r\n"
_REFUSED = (b":0", b":-1")
# What waits; past it a client pipelines more than anybody could follow. (Security limit.)
MAX_PENDING = 10_000


class Pending:
    """What waits of one client.

    Args:
        observer: who is told of decisions.
        clock: nanoseconds since the epoch.
        selected: is told the number of a database that was asked for, and the reply; empty where that cannot be told.
    """

    __slots__ = ("_clock", "_counter", "_held", "_observer", "_selected", "_waiting", "counting", "marks", "replies")

    def __init__(self, observer: Observer, clock: Callable[[], int], selected: Callable[[int, bytes], None]) -> None:
        self.replies = 0
        """Replies that Redis has sent."""
        self.counting = True
        """False once replies can no longer be assigned to commands (pub/sub, MONITOR, CLIENT REPLY, ...)."""
        self.marks: deque[int] = deque()
        """The numbers of the commands whose replies may be marks. While there are any, `unmark` takes the bytes."""
        self._held = b""  # the beginning of such a reply
        self._observer = observer
        self._clock = clock
        self._selected = selected
        self._counter = ReplyCounter()
        # The number of the command, what was decided (None: a SELECT), the database it went to, and when.
        self._waiting: deque[tuple[int, Decision | Enqueue | None, int, int]] = deque()

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._waiting)

    def expect(self, decision: Decision | None, number: int, database: int) -> None:
        """Tell of a decision when its reply has come; at once where that cannot be told.

        Args:
            decision: what was decided; None for a SELECT.
            number: the number of its command, counted from 1.
            database: the number of the database that the command goes to, or asks for.
        """
        now = self._clock()
        if self.replies >= number:  # Redis has said more than it was asked
            self.stop()
        if self.counting and len(self._waiting) < MAX_PENDING:
            self._waiting.append((number, decision, database, now))
        else:
            self._tell(decision, database, now, b"")

    def await_enqueue(self, enqueue: Enqueue, number: int, database: int) -> bool:
        """Wait for the reply to an enqueue, which says whether there is anything to tell.

        Args:
            enqueue: what is known before.
            number: the number of its command, counted from 1.
            database: the number of the database that it goes to.

        Returns:
            Whether its reply will be told from others; if not, it must reply no mark.
        """
        if not self.counting or self.replies >= number or len(self._waiting) >= MAX_PENDING:
            return False
        self._waiting.append((number, enqueue, database, self._clock()))
        if enqueue.decision.enforced:
            self.marks.append(number)
        return True

    def unmark(self, data: bytes) -> bytes:
        """Take note of bytes of Redis, among which marks may be; return what the client gets for them."""
        counter, position = self._counter, 0
        out: list[bytes] = []
        counter.forget()
        while position < len(data) and not counter.lost:
            start, holds = position, bool(self._held) or (counter.between and self._is_mark_due(data[position]))
            position = counter.advance(data, position)
            piece, self._held = self._held + data[start:position], b""
            if counter.heads:
                self.replies += 1
                out.append(self._settled(piece, counter.heads.pop()))
            elif holds and not counter.lost:
                self._held = piece
            else:
                out.append(piece)
        if counter.lost:
            self.close()
        return b"".join(out)

    def _is_mark_due(self, first: int) -> bool:
        """Say whether a reply that begins with this byte may be a mark."""
        return first == _COLON and bool(self.marks) and self.marks[0] == self.replies + 1

    def _settled(self, reply: bytes, head: bytes) -> bytes:
        """Tell of what waits for a reply that has ended; return what the client gets of it."""
        marked = bool(self.marks) and self.marks[0] == self.replies
        if marked:
            self.marks.popleft()
        if self._waiting and self._waiting[0][0] == self.replies:
            _, decision, database, start_ns = self._waiting.popleft()
            self._tell(decision, database, start_ns, head)
        return _ADDED if marked and _mark_in(head) and reply == head else reply

    def receive(self, data: bytes) -> None:
        """Take note of bytes of Redis."""
        if not self.counting:
            return
        count = count_replies(data) if self._counter.between else 0
        if count and not self._waiting:  # nearly always
            self.replies += count
            return
        due = self._waiting and self._waiting[0][0] <= self.replies + count
        if count and (count == 1 or not due):
            self.replies += count
            if due:
                _, decision, database, start_ns = self._waiting.popleft()
                if data == _OK and type(decision) is Decision:  # nearly always; as `_tell` would do it
                    told = decision, database, start_ns, self._clock(), _OK[:-2], ()
                    self._observer.decided(tuple.__new__(Outcome, told))
                    return
                self._tell(decision, database, start_ns, data[: data.find(b"\n") + 1][:MAX_HEAD_BYTES])
            return
        count = self._counter.feed(data)
        heads = self._counter.heads
        while self._waiting and self._waiting[0][0] <= self.replies + count:
            number, decision, database, start_ns = self._waiting.popleft()
            self._tell(decision, database, start_ns, heads[number - self.replies - 1])
        self.replies += count
        if self._counter.lost:
            self.stop()

    def stop(self) -> None:
        """Count no more; tell of all that waits, without a reply. Marks that are due are still waited for."""
        self.counting = False
        marked = []
        while self._waiting:
            number, decision, database, start_ns = self._waiting.popleft()
            if isinstance(decision, Enqueue):
                marked += [(number, decision, database, start_ns)] if decision.decision.enforced else []
            else:
                self._tell(decision, database, start_ns, b"")
        self._waiting.extend(marked)

    def close(self) -> None:
        """Tell of all that waits: no reply to it will ever come."""
        self.stop()
        self.marks.clear()
        self._waiting.clear()

    def _tell(self, decision: Decision | Enqueue | None, database: int, start_ns: int, reply: bytes) -> None:
        if decision is None:
            self._selected(database, reply)
        # NOSCRIPT is no answer: the client sends the text next, and that is decided about again.
        elif not reply.startswith(b"-NOSCRIPT"):
            reply = reply.rstrip(b"\r\n")
            if isinstance(decision, Enqueue):
                self._tell_of_enqueue(decision, database, start_ns, reply)
            else:
                self._observer.decided(Outcome(decision, database, start_ns, self._clock(), reply))
            if reply.startswith((b"-MOVED ", b"-ASK ")):
                self._observer.clustered(redirected=True)

    def _tell_of_enqueue(self, enqueue: Enqueue, database: int, start_ns: int, reply: bytes) -> None:
        """Tell of an enqueue that has replaced a task, or of one that was refused where none is replaced."""
        mark = _mark_in(reply) if enqueue.decision.enforced else 0
        if mark:
            decision = enqueue.replaced(mark)
            self._observer.decided(Outcome(decision, database, start_ns, self._clock(), _ADDED[:-2]))
        elif reply in _REFUSED and not enqueue.decision.enforced:
            self._observer.refused(enqueue, Outcome(enqueue.decision, database, start_ns, self._clock(), reply))


def _mark_in(head: bytes) -> int:
    """Return the mark that the first line of a reply is; 0 where it is none."""
    number = head[1:].rstrip(b"\r\n")
    return int(number) if head.startswith(b":") and number.isdigit() and int(number) >= FIRST_MARK else 0
