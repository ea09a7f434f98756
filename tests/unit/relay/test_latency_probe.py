"""The sidecar's own latency is measured now and then."""

import asyncio
from contextlib import suppress

from asynq_ttl.relay.latency_probe import beat
from asynq_ttl.relay.traffic import Traffic
from support.relayed import Measured
from support.waiting import until


async def test_each_beat_asks_for_one_measurement_in_each_direction() -> None:
    """And tells how late the event loop was."""
    seen = Measured()
    traffic = Traffic(seen)
    beating = asyncio.create_task(beat(traffic, seen))
    assert not traffic.command_due
    await until(lambda: traffic.command_due)
    assert traffic.reply_due
    assert seen.late
    assert all(seconds >= 0 for seconds in seen.late)
    traffic.time_reply(lambda _: None, lambda _: None, b"")
    assert [direction for _, direction in seen.chunks] == ["reply"]
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
