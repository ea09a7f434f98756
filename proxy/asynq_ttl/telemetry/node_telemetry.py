"""Tells of what is done at one node of a cluster: spans name that node, all else is as without a cluster."""

from asynq_ttl.events import Activated, Adopted, Enqueue, FailedOpen, Outcome, Swept
from asynq_ttl.telemetry.decisions import ObservedNode
from asynq_ttl.telemetry.recorder import Telemetry


class NodeTelemetry:
    """Hears of the sessions, the sweeper and the wrappers of a node (`events.Observer`, `events.SweepObserver`).

    Args:
        telemetry: who is told.
        node: the node.
    """

    def __init__(self, telemetry: Telemetry, node: ObservedNode) -> None:
        self._telemetry = telemetry
        self._node = node

    def decided(self, outcome: Outcome) -> None:
        """Tell of a decision."""
        self._telemetry.decided(outcome, self._node)

    def refused(self, enqueue: Enqueue, outcome: Outcome) -> None:
        """Find out whether the enqueue would have replaced a task."""
        self._telemetry.refused(enqueue, outcome, self._node)

    def clustered(self, *, redirected: bool) -> None:
        """Tell of a client that was sent to another node, or asked for the nodes."""
        self._telemetry.clustered(redirected=redirected)

    def failed_open(self, failure: FailedOpen) -> None:
        """Tell of a command that was forwarded untouched."""
        self._telemetry.failed_open(failure, self._node)

    def activated(self, activated: Activated) -> None:
        """Tell of a wrapper that was loaded, or was not."""
        self._telemetry.activated(activated, self._node)

    def swept(self, page: Swept) -> None:
        """Tell of a page."""
        self._telemetry.swept(page, self._node)

    def adopted(self, tasks: Adopted) -> None:
        """Tell of tasks that were adopted."""
        self._telemetry.adopted(tasks, self._node)

    def repaired(self, queue: str, persisted: int, dropped: int) -> None:
        """Tell of TTLs taken off live tasks, and of active IDs that were dropped."""
        self._telemetry.repaired(queue, persisted, dropped)

    def sweep_ended(self, seconds: float, error: str, refusals: int = 0) -> None:
        """Tell of the end of a round."""
        self._telemetry.sweep_ended(seconds, error, refusals)
