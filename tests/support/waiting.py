"""Waiting, in an event loop, for what is bound to come; `servers.wait_until` is the same without a loop.

No test goes by the machine's pace: the limit is there for what never comes.
"""

import asyncio
from collections.abc import Callable

LONG_SECONDS = 60.0
"""Longer than anything takes that comes at all."""


async def until(condition: Callable[[], object], complaint: str = "it does not come to hold") -> None:
    """Wait until a condition holds.

    Args:
        condition: looked at again and again, between what else the loop does.
        complaint: what is wrong if it does not come to hold.

    Raises:
        AssertionError: it does not.
    """
    end = asyncio.get_running_loop().time() + LONG_SECONDS
    while not condition():
        assert asyncio.get_running_loop().time() < end, complaint
        await asyncio.sleep(0.005)
