"""How a script trims the index that it fills, read from its calls. Pure.

A trim by number may name the last entry that goes by its rank (`-(ARGV[5]+1)`), or count how many are too many: the
size of the index less what is kept, under a condition that says that there are too many.

Invariant: a trim is only understood where it finds nothing to do, and does not raise, once its cutoff is `-inf` and its
cap larger than any index. So a wrapper can take over what it does.
"""

import re
from typing import NamedTuple

from asynq_ttl.asynq.call_arguments import arg_number
from asynq_ttl.asynq.linear import Linear, linear
from asynq_ttl.asynq.lua_reader import LuaCall

# What removes entries of an index by range, or reads them in order to.
_TRIMS = frozenset(
    (
        *("ZREMRANGEBYSCORE", "ZREMRANGEBYRANK", "ZREMRANGEBYLEX", "ZPOPMIN", "ZPOPMAX", "ZMPOP"),
        *("ZRANGE", "ZRANGEBYSCORE", "ZRANGEBYLEX", "ZREVRANGE", "ZREVRANGEBYSCORE", "ZRANGESTORE"),
    )
)
_LOWEST = frozenset(('"-inf"', '"0"', "0"))
_FIRST = frozenset(("0", '"0"'))
_SIZE = re.compile(r'redis\.p?call\("ZCARD",(KEYS\[[0-9]+\])\)', re.IGNORECASE)
_AT_LEAST_NONE = re.compile(r"math\.max\((?:0,(.+)|(.+),0)\)")
_COMPARED = re.compile(r"([^<>=~]+)([<>]=?)([^<>=~]+)")


class Trims(NamedTuple):
    """How a script trims an index.

    Attributes:
        cutoff_arg: the ARGV with the score up to which entries go; 0 without such a trim.
        cap_arg: the ARGV with the number of entries that stay; likewise.
        cap_offset: how many more than that stay.
    """

    cutoff_arg: int = 0
    cap_arg: int = 0
    cap_offset: int = -1


def read_trims(calls: tuple[LuaCall, ...], index: str) -> Trims | None:
    """Return how an index is trimmed: by age, by number, both or not at all; None where that is not understood.

    Args:
        calls: the script's calls.
        index: the index, as canonical text.
    """
    cutoffs: set[int] = set()
    caps: set[tuple[int, int]] = set()
    for position, call in enumerate(calls):
        if call.args[:1] != (index,) or call.command not in _TRIMS:
            continue
        cutoff = _cutoff(call)
        cap = None if cutoff else _cap(call, index, sized_last=_sized_last(calls, position, index))
        if cutoff:
            cutoffs.add(cutoff)
        elif cap:
            caps.add(cap)
        else:
            return None
    if len(cutoffs) > 1 or len(caps) > 1:
        return None
    cap_arg, cap_offset = caps.pop() if caps else (0, -1)
    return Trims(cutoffs.pop() if cutoffs else 0, cap_arg, cap_offset)


def _cutoff(call: LuaCall) -> int:
    """Return the number of the ARGV that has the score up to which a call takes entries; 0 where none has."""
    by_score = call.command in ("ZREMRANGEBYSCORE", "ZRANGEBYSCORE") or '"BYSCORE"' in call.args
    if not by_score or len(call.args) < 3 or call.args[1] not in _LOWEST:
        return 0
    return arg_number(call.args[2])


def _cap(call: LuaCall, index: str, *, sized_last: bool) -> tuple[int, int] | None:
    """Return the ARGV and the offset of the number of entries that a trim by number leaves; None where it is none.

    Args:
        call: the trim.
        index: what it trims.
        sized_last: whether the size of the index is asked for when everything is in it.
    """
    args = call.args
    if call.command == "ZPOPMIN" and len(args) < 3:
        surplus = _surplus(args[1], index) if len(args) == 2 and args[1] != "1" else None
        last = None
    elif call.command in ("ZREMRANGEBYRANK", "ZRANGE") and len(args) > 2 and args[1] in _FIRST:
        surplus, last = _surplus(args[2], index), linear(args[2])
    else:
        return None
    if last is not None:
        # The entries up to rank `-cap + constant` go, so `cap - 1 - constant` stay.
        return (last.arg, -1 - last.constant) if last.factor == -1 else None
    if not sized_last:
        return None
    guards = {guard for guard in (_guard(part, index) for part in call.guard) if guard}
    if call.command == "ZPOPMIN" and (len(args) == 1 or args[1] == "1"):
        return guards.pop() if len(guards) == 1 else None
    if surplus is None:
        return None
    # The entries up to this rank go, so one more than that.
    kept = (surplus.arg, -surplus.constant - (call.command != "ZPOPMIN"))
    counted = call.command == "ZPOPMIN" and _AT_LEAST_NONE.fullmatch(args[1]) is not None
    return kept if counted or kept in guards else None


def _surplus(expression: str, index: str) -> Linear | None:
    """Return an expression as the size of an index less one ARGV, and a constant; None for anything else."""
    at_least = _AT_LEAST_NONE.fullmatch(expression)
    return _sized(at_least[1] or at_least[2] if at_least else expression, index)


def _sized(expression: str, index: str) -> Linear | None:
    found = linear(_SIZE.sub(lambda size: "@" if size[1] == index else size[0], expression))
    return found if found is not None and (found.sizes, found.factor) == (1, -1) else None


def _guard(part: str, index: str) -> tuple[int, int] | None:
    """Return the ARGV and the offset of the number of entries that an index has at most where a condition is false."""
    compared = _COMPARED.fullmatch(part)
    if compared is None:
        return None
    more, sign, less = compared[1], compared[2], compared[3]
    if sign[0] == "<":
        more, less = less, more
    surplus = _sized(f"{more}-({less})", index)
    # It is true from a surplus of one on, with an equals sign from one of none.
    return (surplus.arg, -surplus.constant - len(sign) + 1) if surplus else None


def _sized_last(calls: tuple[LuaCall, ...], position: int, index: str) -> bool:
    """Say whether the size of an index is asked for only once the index is filled."""
    filled = max((at for at, call in enumerate(calls) if _about(call, "ZADD", index)), default=0)
    sized = [at for at, call in enumerate(calls) if _about(call, "ZCARD", index)]
    return bool(sized) and min(sized) > filled and position > filled


def _about(call: LuaCall, command: str, index: str) -> bool:
    return call.command == command and call.args[:1] == (index,)
