"""The compiled way of a chunk that only passes: looked up, counted and written, without a line of Python.

Nearly every chunk does, in either direction. Anything unusual is left to `connection`, which says what becomes of a
chunk; so is every chunk where `_forwarding.c` was not built.

Invariant: the compiled part has no state of its own. It reads and counts in the attributes of the Python objects, so
there is nothing that could differ from them.
"""

import asyncio

from asynq_ttl.relay.traffic import Traffic
from asynq_ttl.session.fast_path import Memory
from asynq_ttl.session.holding import Holding
from asynq_ttl.session.pending import Pending
from asynq_ttl.session.session import SPECIAL_NAMES, Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import CommandFramer
from asynq_ttl.wire.replies import ReplyCounter

try:
    from asynq_ttl.relay._forwarding import install as _install
except ImportError:  # there was no C compiler when this was installed
    _install = None  # type: ignore[assignment] # a function, or none

# The classes whose attributes are looked at, beside those of the two sides.
_LOOKED_AT = (Traffic, Session, CommandFramer, Holding, Pending, ReplyCounter, Memory, Shared)


def forward(
    downstream: type[asyncio.Protocol], upstream: type[asyncio.Protocol], no_pause: object, turn_bytes: int
) -> None:
    """Let the class of a client's side have its `data_received` and `upstream_received` compiled, where they are.

    Args:
        downstream: that class. Its `pass_on` and `pass_back` are called for anything unusual.
        upstream: the class of Redis's side.
        no_pause: the value of a client's `_pauses` while it is read from.
        turn_bytes: from this size on a chunk is unusual.
    """
    if _install is not None:
        _install((downstream, upstream, *_LOOKED_AT), no_pause, SPECIAL_NAMES, turn_bytes)
