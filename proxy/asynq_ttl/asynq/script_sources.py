"""Where a bulk script reads the IDs that it goes through, read from its calls. Pure.

Invariant: a script that reads anything else than one list or set, from its beginning, is not understood.
"""

from typing import NamedTuple

from asynq_ttl.asynq.call_arguments import key_number
from asynq_ttl.asynq.linear import linear
from asynq_ttl.asynq.lua_reader import LuaCall

_READS = frozenset(("ZRANGE", "ZRANGEBYSCORE", "ZRANGEBYLEX", "ZREVRANGE", "ZREVRANGEBYSCORE", "LRANGE", "SMEMBERS"))
_FIRST = frozenset(("0", '"0"'))
_ALL = -1


class Source(NamedTuple):
    """What a bulk script reads.

    Attributes:
        key: the number of its KEYS.
        command: `ZRANGE`, `ZREVRANGE` or `LRANGE`.
        limit_arg: the ARGV that bounds it; 0 where none does.
        limit_offset: it reads up to this rank, and as much further as that ARGV says. -1 without one: to the end.
    """

    key: int
    command: str
    limit_arg: int = 0
    limit_offset: int = _ALL


def read_source(calls: tuple[LuaCall, ...], index: str = "") -> Source | None:
    """Return what a bulk script reads; None where that is not understood.

    Args:
        calls: the script's calls.
        index: the index that the script trims, if any: what reads that is not counted.
    """
    reads = {call for call in calls if call.command in _READS and call.args[:1] != (index,)}
    if len(reads) != 1:
        return None
    read = reads.pop()
    key = key_number(read.args[0]) if read.args else 0
    by_rank = read.command in ("ZRANGE", "ZREVRANGE", "LRANGE") and len(read.args) == 3 and read.args[1] in _FIRST
    last = _last(read.args[2]) if by_rank else None
    return Source(key, read.command, *last) if key and last else None


def _last(expression: str) -> tuple[int, int] | None:
    """Return the last rank that is read as `limit_arg` and `limit_offset` of `Source`; None where it is neither."""
    expression = expression.strip('"')
    if expression in ("-1", "(-1)"):
        return 0, _ALL
    if expression.isdigit() and len(expression) <= 9:
        return 0, int(expression)
    bound = linear(expression)
    return (bound.arg, bound.constant) if bound and (bound.factor, bound.sizes) == (1, 0) else None
