"""What passes between clients and Redis, counted; and now and then how long a chunk of it is held.

Every chunk is counted, so the connections add to these numbers themselves: a call for each would cost more than all
else about it. Whoever collects them reads them.

Invariants:

* Of what passes between two calls of `time_next`, at most one chunk in each direction is timed. So what timing costs
  does not grow with the traffic.
* A chunk of replies that is timed is told of with the latest span that was made while note was taken of it, and with
  no other one.
"""

import time
from collections.abc import Callable

from asynq_ttl.events import LatencyObserver


class Traffic:
    """The counters of all connections.

    Args:
        observer: who is told how long chunks are held.
    """

    __slots__ = ("_observer", "bytes_from_clients", "bytes_from_redis", "command_due", "reply_due")

    def __init__(self, observer: LatencyObserver) -> None:
        self.bytes_from_clients = 0
        self.bytes_from_redis = 0
        self.command_due = False
        """Whether the next chunk of commands is to be timed."""
        self.reply_due = False
        """Whether the next chunk of replies is to be timed."""
        self._observer = observer

    def time_next(self) -> None:
        """Have the next chunk in each direction timed."""
        self.command_due = self.reply_due = True

    def time_command(self, work: Callable[[bytes], None], data: bytes) -> None:
        """Do with a chunk of commands what is to be done, and tell how long that took."""
        self.command_due = False
        started = time.perf_counter_ns()
        work(data)
        self._observer.measured(time.perf_counter_ns() - started, "command")

    def time_reply(self, give: Callable[[bytes], None], note: Callable[[bytes], None], data: bytes) -> None:
        """Give the client a chunk of replies, then take note of it; tell how long the former took.

        It is told only after the latter, which makes the spans of what was decided.
        """
        self.reply_due = False
        before = self._observer.latest_span
        started = time.perf_counter_ns()
        give(data)
        nanoseconds = time.perf_counter_ns() - started
        note(data)
        span = self._observer.latest_span
        self._observer.measured(nanoseconds, "reply", None if span is before else span)
