"""Tells of what is swept at one node of a cluster: its spans name that node, all else is as without a cluster."""

from collections.abc import Callable

from asynq_ttl.events import Adopted, Swept
from asynq_ttl.net.address import Address
from asynq_ttl.telemetry.recorder import Telemetry


class SweptNode:
    """Hears of one sweeper (`events.SweepObserver`).

    Args:
        telemetry: who is told.
        address: returns where the node is.
    """

    def __init__(self, telemetry: Telemetry, address: Callable[[], Address]) -> None:
        self._telemetry = telemetry
        self._address = address

    def swept(self, page: Swept) -> None:
        """Tell of a page."""
        self._telemetry.swept(page, self._address())

    def adopted(self, tasks: Adopted) -> None:
        """Tell of tasks that were adopted."""
        self._telemetry.adopted(tasks, self._address())

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Tell of TTLs taken off live tasks, and of active IDs that were dropped."""
        self._telemetry.repaired(queue, persisted, dropped)

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Tell of the end of a round."""
        self._telemetry.sweep_ended(seconds, error, refusals)
