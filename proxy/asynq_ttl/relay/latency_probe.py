"""A beat by which the sidecar measures itself: how late its event loop is, and how long it holds a chunk of bytes.

At each beat the relay is asked to time the next chunk in each direction. So the measurements are spread over time
evenly, and what they cost does not grow with the traffic.
"""

import asyncio
import time

from asynq_ttl.events import LatencyObserver
from asynq_ttl.relay.relay import Relay

INTERVAL_SECONDS = 0.05


async def beat(relay: Relay, observer: LatencyObserver) -> None:
    """Measure until cancelled."""
    relay.measured = observer.measured
    while True:
        due = time.perf_counter() + INTERVAL_SECONDS  # the loop's own clock is one of milliseconds
        await asyncio.sleep(INTERVAL_SECONDS)
        observer.loop_late(max(time.perf_counter() - due, 0.0))
        relay.command_due = relay.reply_due = True
