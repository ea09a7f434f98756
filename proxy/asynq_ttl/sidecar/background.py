"""What a sidecar does beside serving clients: sweeping, watching files, keeping an eye on Redis, answering admin calls.

Invariants:

* What raises harms nothing else, and does not end. It is named in the log, counted, and begun again a second later.
  Each has a task of its own, so that one that fails does not cancel the others.
* Nothing of it holds up the end: what does not heed its cancellation is left behind.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable

from asynq_ttl.telemetry.logs import Repetition

_log = logging.getLogger("asynq_ttl.background")

AGAIN_SECONDS = 1.0
# A task that has swallowed its cancellation is cancelled again after so long.
_CANCEL_SECONDS = 0.2
_CANCELLATIONS = 3
_STOP_SECONDS = 1.0


class Background:
    """The background tasks of one sidecar."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        """How often each has raised, by name."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[asyncio.Task[None]] = set()
        self._repetition = Repetition()

    def start(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something that runs until `end`.

        Args:
            name: what it is called in the log and in metrics; no other may be called so.
            work: does it, until it is cancelled.
        """
        self._tasks[name] = asyncio.get_running_loop().create_task(self._keep(name, work))

    def stop(self, name: str, ending: Callable[[], Coroutine[None, None, None]]) -> None:
        """Cancel one, and then do what ends it."""

        async def stop(task: asyncio.Task[None]) -> None:
            await _end([task])
            await within(_STOP_SECONDS, ending())

        stopping = asyncio.get_running_loop().create_task(stop(self._tasks.pop(name)))
        self._stopping.add(stopping)
        stopping.add_done_callback(self._stopping.discard)

    def failed(self, name: str, error: Exception, then: str) -> None:
        """Count what was raised where nothing expected it, and name it in the log.

        Args:
            name: what has raised it.
            error: what was raised.
            then: what becomes of it.
        """
        self.failures[name] += 1
        more = self._repetition.allows(name)
        if more is not None:
            _log.error("%s failed and %s: %s%s", name, then, type(error).__name__, more, exc_info=error)

    async def end(self) -> None:
        """Cancel all."""
        await _end([*self._tasks.values(), *self._stopping])
        self._tasks = {}

    async def _keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        while not _is_cancelled():
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - a bug in one must not end it, nor anything else
                if _is_cancelled():
                    return  # it was raised because of that
                self.failed(name, error, "begins again")
            await asyncio.sleep(AGAIN_SECONDS)


async def within(seconds: float, *endings: Coroutine[None, None, None]) -> None:
    """Do some endings side by side. One that fails or hangs, as a Redis that is stopped makes it, keeps none back."""
    tasks = [asyncio.get_running_loop().create_task(ending) for ending in endings]
    done, late = await asyncio.wait(tasks, timeout=seconds)
    await _end(late)
    for task in done:
        if (error := task.exception()) is not None:
            _log.error("ending: %s", type(error).__name__, exc_info=error)


def _is_cancelled() -> bool:
    """Say whether the task that runs has been cancelled, be it that it was swallowed (see `_end`)."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they are done: before Python 3.12 `asyncio.wait_for` can swallow a cancellation."""
    left = set(tasks)
    for _ in range(_CANCELLATIONS):
        for task in left:
            task.cancel()
        if left:
            _, left = await asyncio.wait(left, timeout=_CANCEL_SECONDS)
