"""The clock of a server is compared with that of this machine."""

import time
from typing import Any

import pytest

from asynq_ttl.existing_keys.doctor import clock
from asynq_ttl.existing_keys.findings import Severity


class Server:
    """In the place of a client: its clock is ahead.

    Args:
        ahead: seconds.
    """

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def time(self) -> tuple[int, int]:
        """Say what time it is."""
        now = time.time() + self._ahead
        return int(now), int(now % 1 * 1e6)


@pytest.mark.parametrize(
    ("ahead", "severity"), [(0, Severity.FINE), (-30, Severity.WARNING), (30, Severity.WARNING), (90, Severity.DANGER)]
)
def test_a_clock(ahead: float, severity: Severity) -> None:
    """The grace bridges a difference; one beyond it costs tasks."""
    server: Any = Server(ahead)
    found = clock.check(server, 60)
    assert (found.code, found.severity) == ("clock", severity)
