"""The signals of the process, from before anything is begun until it has ended.

Invariants:

* SIGTERM and SIGINT end the process, whenever they come. Before there is a loop they leave the block under way, which
  ends what it began. From then on they ask the sidecar to end.
* The process does not outlast its end: what hangs is left behind after `GRACE_SECONDS`, with one line and status 1.
  They are counted in short sleeps, so that a machine that stands still, or has no time for the process, does not count.
* SIGHUP never ends it. One that comes early is kept until there is something to reload.

Handlers of an event loop would not do: they wait for a loop that is held up. These run between any two steps of Python,
also while a system call waits.
"""

import asyncio
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 2.5
"""How long the process may take to end, after the time that commands under way were given."""

_STEP_SECONDS = 0.05

ENDING = (signal.SIGTERM, signal.SIGINT)


class StoppedEarlyError(SystemExit):
    """The process was asked to end before it had begun; raised between any two steps of the main thread."""


class Signals:
    """What a process does when it is signalled, once it heeds signals. Until then nothing is changed or forced."""

    def __init__(self) -> None:
        self._end: Callable[[], None] = self._leave
        self._reload: Callable[[], None] | None = None
        self._reload_asked = False
        self._drain_seconds: float | None = None
        self._last_resorts: list[Callable[[], None]] = []
        self._heeded = False
        # How often the last resort has slept, and how often it will have slept when it is time.
        self._steps = 0
        self._deadline: int | None = None

    def heed(self) -> None:
        """Heed signals from now on until the process has ended."""
        self._heeded = True
        for number in ENDING:
            signal.signal(number, self._asked_to_end)
        signal.signal(signal.SIGHUP, self._asked_to_reload)

    @contextmanager
    def later(self) -> Iterator[None]:
        """While the block runs, only take note of being asked to end: what it does must not be left halfway."""
        asked: list[bool] = []
        self._end = lambda: self._note(asked)
        try:
            yield
        finally:
            self._end = self._leave
            if asked:
                self._leave()

    def hand_over(self, end: Callable[[], None], reload: Callable[[], None], drain_seconds: float) -> None:
        """Ask a sidecar in the running loop from now on; it hears of a reload that was asked for before.

        Args:
            end: asks it to end; asked twice, at once.
            reload: lets it read its files again.
            drain_seconds: how long it may wait for commands under way.
        """
        call = asyncio.get_running_loop().call_soon_threadsafe
        self._drain_seconds = drain_seconds
        self._reload = lambda: _quietly(call, reload)
        self._end = lambda: _quietly(call, end)
        if self._reload_asked:
            self._reload()

    def ends(self) -> None:
        """Take note that the process ends, for whatever reason: from now on it has `GRACE_SECONDS`."""
        self._drain_seconds = 0.0
        self._end = self._reload = lambda: None
        self._end_within(GRACE_SECONDS)

    def at_last(self, do: Callable[[], None]) -> None:
        """Have something done if the process has to be ended by force."""
        self._last_resorts.append(do)

    def _asked_to_end(self, _number: int, _frame: FrameType | None) -> None:
        if self._drain_seconds is not None:
            self._end_within(self._drain_seconds + GRACE_SECONDS)
            self._drain_seconds = 0.0  # whoever asks twice does not want to wait
        self._end()

    def _asked_to_reload(self, _number: int, _frame: FrameType | None) -> None:
        self._reload_asked = True
        if self._reload is not None:
            self._reload()

    def _note(self, asked: list[bool]) -> None:
        asked.append(True)
        self._end_within(GRACE_SECONDS)

    def _leave(self) -> None:
        self.ends()  # what the block began ends undisturbed
        raise StoppedEarlyError(0)

    def _end_within(self, seconds: float) -> None:
        """End the process by force in so many seconds, unless that is to happen sooner already."""
        deadline = self._steps + math.ceil(seconds / _STEP_SECONDS)
        begun, self._deadline = self._deadline, min(deadline, self._deadline or deadline)
        if begun is None and self._heeded:
            threading.Thread(target=self._force, name="last resort", daemon=True).start()

    def _force(self) -> None:
        while self._deadline is not None and self._steps < self._deadline:
            time.sleep(_STEP_SECONDS)
            self._steps += 1
        for do in self._last_resorts:
            do()
        # Not by the log: a lock of it may be what hangs.
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"asynq-ttl: something hangs, ended by force\n")
        os._exit(1)


def _quietly(call: Callable[[Callable[[], None]], object], do: Callable[[], None]) -> None:
    """Have something done in a loop; nothing if the loop has ended."""
    try:
        call(do)
    except RuntimeError:
        return
