"""What the reply of a script that ends tasks says about them. Pure.

Who knows that need not ask Redis for each task whether it has ended, nor before each completion whether there is a
ghost in its way.

Invariant: where it is not certain what a reply says, nothing is said.
"""

import re

from asynq_ttl.asynq.lua_reader import LuaCall, LuaText

_KEY = re.compile(r"KEYS\[\d+\]")
# What a `return` may give back that is no success: an error, or a number below 1.
_NO_SUCCESS = re.compile(r"redis\.error_reply|(?:0|-\d+)(?:end|else|;).*", re.DOTALL)
_ONE = r'redis \. call \( "{0}" , KEYS \[ (?P<{1}>\d+) \] , {2}ARGV \[ {3} \] \)'
_ELSE = r' then return redis \. error_reply \( "(?P<{0}>[A-Z ]+)" \) end '
_GUARDED = re.compile(
    "if "
    + _ONE.format("LREM", "active", "0 , ", r"(?P<id>\d+)")
    + " == 0"
    + _ELSE.format("inactive")
    + "if "
    + _ONE.format("ZREM", "lease", "", "(?P=id)")
    + " == 0"
    + _ELSE.format("unleased")
    + "if "
    + _ONE.format("ZADD", "index", r"ARGV \[ \d+ \] , ", "(?P=id)")
    + r" ~= 1"
    + _ELSE.format("refusal")
    + r'redis \. call \( "HSET" '
)
_EACH = re.compile(
    r'local (?P<ids>\w+) = redis \. call \( "[LZ]RANGE" , KEYS \[ \d+ \] , 0 , - 1 \) '
    r"for \w+ , (?P<id>\w+) in ipairs \( (?P=ids) \) do "
    r'redis \. call \( "ZADD" , KEYS \[ \d+ \] , ARGV \[ \d+ \] , (?P=id) \) '
    r'redis \. call \( "HSET" , ARGV \[ \d+ \] \.\. (?P=id) , "state" , "archived" \) end '
)


def success_says_ended(lua: LuaText, write: LuaCall) -> bool:
    """Say whether a script that replies OK or 1 has written a state, which is what its task is in then.

    For a script that moves all tasks of a source: whether any reply but an error says so of each of them.

    Args:
        lua: the script.
        write: the only call in it that writes a state.
    """
    if lua.hides_calls() or not all(map(_NO_SUCCESS.fullmatch, lua.returns_before(write.at))):
        return False
    if write.depth and lua.starts_with(_EACH) is None:
        return False
    # What is behind it leaves the task as it is.
    behind = (call for call in lua.calls if call.at > write.at)
    return all(call.args and _KEY.fullmatch(call.args[0]) and call.args[0] != write.args[0] for call in behind)


def refusal(lua: LuaText) -> tuple[str, int, int]:
    """Return how a script says that a task's ID is in the index already, and which KEYS it has taken it off by then.

    Returns:
        The error, which it gives for nothing else, and the numbers of the active list and of the lease; empty and 0
        for a script of which that is not certain.
    """
    found = lua.starts_with(_GUARDED)
    if found is None or found["refusal"] in found["inactive"] + " " + found["unleased"]:
        return "", 0, 0
    return found["refusal"], int(found["active"]), int(found["lease"])
