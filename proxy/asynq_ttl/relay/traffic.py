"""What passes between clients and Redis, counted; and now and then how long a chunk of it is held.

Every chunk is counted, so the connections add to these numbers themselves: a call for each would cost more than all
else about it. Whoever collects them reads them.

Invariant: of what passes between two calls of `time_next`, at most one chunk in each direction is timed. So what timing
costs does not grow with the traffic.
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
        self._time(work, data, "command")

    def time_reply(self, work: Callable[[bytes], None], data: bytes) -> None:
        """Do with a chunk of replies what is to be done, and tell how long that took."""
        self.reply_due = False
        self._time(work, data, "reply")

    def _time(self, work: Callable[[bytes], None], data: bytes, direction: str) -> None:
        started = time.perf_counter_ns()
        work(data)
        self._observer.measured(time.perf_counter_ns() - started, direction)
