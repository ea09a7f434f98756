"""The compiled way of a chunk that only passes: looked up, counted and written, without a line of Python.

Nearly every chunk does, in either direction. Anything unusual is left to `connection`, which says what becomes of a
chunk; so is every chunk where `_forwarding.c` was not built.

Invariant: the compiled part has no state of its own. It reads and counts in the attributes of the Python objects, so
there is nothing that could differ from them.
"""

import asyncio
from enum import Flag, auto

from asynq_ttl.events import Decision, Outcome
from asynq_ttl.relay.traffic import Traffic
from asynq_ttl.session.fast_path import Memory
from asynq_ttl.session.holding import Holding
from asynq_ttl.session.pending import Pending
from asynq_ttl.session.selected import Selected
from asynq_ttl.session.session import SPECIAL_NAMES, Session
from asynq_ttl.session.shared import Shared
from asynq_ttl.wire.commands import CommandFramer
from asynq_ttl.wire.replies import ReplyCounter

try:
    from asynq_ttl.relay._forwarding import install as _install
    from asynq_ttl.relay._forwarding import install_routed as _install_routed
except ImportError:  # there was no C compiler when this was installed
    _install = _install_routed = None  # type: ignore[assignment] # a function, or none

# After a chunk of this size it is the others' turn: libuv would go on and read up to 32 chunks, 8 MB of small commands.
TURN_BYTES = 65_536


class Pause(Flag):
    """Why nothing is read from a client at the moment."""

    NONE = 0
    CONNECTING = auto()
    ACTIVATING = auto()  # a wrapper is being loaded
    FULL = auto()  # Redis is slow to take what was written
    WAITING = auto()  # much waits for a node of the cluster
    HANGING_UP = auto()
    TURN = auto()  # it is the others'


NO_PAUSE = Pause.NONE  # a member by itself: to look one up takes longer than all else about it

# The classes whose attributes are looked at, beside those of the two sides.
_LOOKED_AT = (Traffic, Session, CommandFramer, Holding, Pending, ReplyCounter, Memory, Shared, Selected)


def forward(downstream: type[asyncio.Protocol], upstream: type[asyncio.Protocol]) -> None:
    """Let the class of a client's side have its `data_received` and `upstream_received` compiled, where they are.

    Args:
        downstream: that class. Its `pass_on` and `pass_back` are called for anything unusual.
        upstream: the class of Redis's side.
    """
    if _install is not None:
        _install((downstream, upstream, *_LOOKED_AT), NO_PAUSE, SPECIAL_NAMES, TURN_BYTES, Decision, Outcome)


def route(*classes: type, unusual: frozenset[bytes]) -> None:
    """Let a routed client's side have its `data_received` compiled, and what stands for Redis its `node_received`.

    Args:
        classes: the former, the latter, and those whose attributes are looked at beside `forward`'s, in the order in
            which `_forwarding.h` has them. For anything unusual `pass_on` and `take_reply` are called.
        unusual: names of commands that do not go by their first key alone, in upper case.
    """
    if _install_routed is not None:
        _install_routed(classes, unusual)
