"""Takes TTLs off live tasks, and active IDs without a task off their list.

Whoever runs a task again past the sidecar leaves it the TTL of its earlier life. What looks where, and when, is up to
the sweeper.
"""

import logging
import time
from typing import Any

from asynq_ttl.asynq.keys import index_key, task_prefix
from asynq_ttl.events import SweepObserver
from asynq_ttl.lua.loader import load
from asynq_ttl.sweep.connections import Connections
from asynq_ttl.sweep.schedule import PAGE_SIZE, Looked, WaitingTasks
from asynq_ttl.sweep.survey import Queue

_log = logging.getLogger("asynq_ttl.sweeper")

# How long a lease has to be over before its ID counts as nobody's. Asynq's own recoverer waits as long.
LEASE_SLACK_SECONDS = 30


class LiveTasks:
    """Repairs live tasks.

    Args:
        connections: to Redis.
        observer: who is told.
    """

    def __init__(self, connections: Connections, observer: SweepObserver) -> None:
        self._connections = connections
        self._observer = observer
        self._active_script = load("sweep/sweep_active")
        self._waiting_script = load("sweep/sweep_waiting")

    async def repair_active(self, queue: Queue) -> None:
        """Repair the IDs of a queue that have been active for longest."""
        database, name = queue
        script = (await self._connections.to(database)).register_script(self._active_script)
        answer: Any = await script(
            keys=[index_key(name, key) for key in ("active", "lease", "deadlines")],
            args=[task_prefix(name), PAGE_SIZE, int(time.time()) - LEASE_SLACK_SECONDS],
        )
        _, persisted, dropped = answer
        self._tell(name, persisted, dropped)

    async def repair_waiting(self, place: WaitingTasks, first: int) -> Looked:
        """Take TTLs off a page of waiting tasks, all of which stay where they are."""
        database, queue, state = place
        script = (await self._connections.to(database)).register_script(self._waiting_script)
        answer: Any = await script(
            keys=[index_key(queue, state)], args=[task_prefix(queue), state, first, first + PAGE_SIZE - 1]
        )
        examined, persisted = answer
        self._tell(queue, persisted, 0)
        return Looked(examined, kept=examined)

    def _tell(self, queue: str, persisted: int, dropped: int) -> None:
        if persisted or dropped:
            message = "queue %s: %d TTLs taken off live tasks, %d active IDs without a task dropped"
            _log.info(message, queue, persisted, dropped)
            self._observer.repaired(queue, persisted, dropped)
