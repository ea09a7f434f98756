"""The sidecar's own latency is measured now and then."""

import asyncio
from contextlib import suppress

from asynq_ttl.relay.latency_probe import INTERVAL_SECONDS, beat
from support.recorded import sidecar


class Seen:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, str]] = []
        self.late: list[float] = []

    def measured(self, nanoseconds: int, direction: str) -> None:
        """Remember a chunk."""
        self.chunks.append((nanoseconds, direction))

    def loop_late(self, seconds: float) -> None:
        """Remember how late the event loop was."""
        self.late.append(seconds)


async def test_each_beat_asks_for_one_measurement_in_each_direction() -> None:
    """The relay is asked, and tells whom it is to tell."""
    relay, seen = sidecar().relay, Seen()
    beating = asyncio.create_task(beat(relay, seen))
    assert not relay.command_due
    await asyncio.sleep(INTERVAL_SECONDS * 3)
    assert relay.command_due
    assert relay.reply_due
    assert seen.late
    assert all(seconds >= 0 for seconds in seen.late)
    relay.measured(5, "reply")
    assert seen.chunks == [(5, "reply")]
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
