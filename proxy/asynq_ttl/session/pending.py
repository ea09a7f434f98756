"""Decisions, and changes of the database, that wait for their replies.

Redis answers in order, so a reply is told by its number: the reply to the n-th command is the n-th reply. Replies are
counted by their boundaries, never decoded.

Invariants:

* A decision is told once: with its reply, or without one if that cannot be told or never comes. So is a SELECT.
* What waits is bounded.
"""

from collections import deque
from collections.abc import Callable

from asynq_ttl.events import Decision, Observer, Outcome
from asynq_ttl.wire.replies import MAX_HEAD_BYTES, ReplyCounter, count_replies

# What waits; past it a client pipelines more than anybody could follow. (Security limit.)
MAX_PENDING = 10_000


class Pending:
    """What waits of one client.

    Args:
        observer: who is told of decisions.
        clock: nanoseconds since the epoch.
        selected: is told the number of a database that was asked for, and the reply; empty where that cannot be told.
    """

    __slots__ = ("_clock", "_counter", "_observer", "_selected", "_waiting", "counting", "replies")

    def __init__(self, observer: Observer, clock: Callable[[], int], selected: Callable[[int, bytes], None]) -> None:
        self.replies = 0
        """Replies that Redis has sent."""
        self.counting = True
        """False once replies can no longer be assigned to commands (pub/sub, MONITOR, CLIENT REPLY, ...)."""
        self._observer = observer
        self._clock = clock
        self._selected = selected
        self._counter = ReplyCounter()
        # The number of the command, what was decided (None: a SELECT), the database it went to, and when.
        self._waiting: deque[tuple[int, Decision | None, int, int]] = deque()

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
        """Count no more; tell of all that waits, without a reply."""
        self.counting = False
        while self._waiting:
            _, decision, database, start_ns = self._waiting.popleft()
            self._tell(decision, database, start_ns, b"")

    def _tell(self, decision: Decision | None, database: int, start_ns: int, reply: bytes) -> None:
        if decision is None:
            self._selected(database, reply)
        # NOSCRIPT is no answer: the client sends the text next, and that is decided about again.
        elif not reply.startswith(b"-NOSCRIPT"):
            self._observer.decided(Outcome(decision, database, start_ns, self._clock(), reply.rstrip(b"\r\n")))
            if reply.startswith((b"-MOVED ", b"-ASK ")):
                self._observer.clustered(redirected=True)
