"""A beat by which the sidecar measures itself: how late its event loop is, and how long it holds a chunk of bytes.

At each beat the next chunk in each direction is asked to be timed. So the measurements are spread over time evenly, and
what they cost does not grow with the traffic.
"""

import asyncio
import time

from asynq_ttl.events import LatencyObserver
from asynq_ttl.relay.traffic import Traffic

INTERVAL_SECONDS = 0.05


async def beat(traffic: Traffic, observer: LatencyObserver) -> None:
    """Measure until cancelled.

    Args:
        traffic: what times chunks of bytes, when asked to.
        observer: who is told how late the event loop is.
    """
    while True:
        due = time.perf_counter() + INTERVAL_SECONDS  # the loop's own clock is one of milliseconds
        await asyncio.sleep(INTERVAL_SECONDS)
        observer.loop_late(max(time.perf_counter() - due, 0.0))
        traffic.time_next()
