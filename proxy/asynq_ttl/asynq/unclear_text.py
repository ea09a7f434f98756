"""Texts that are not understood, and yet may end a task. Pure; beside `script_shape`, which says what is understood.

Invariant: a text of which this says no writes no terminal state, whatever KEYS and ARGV it is called with: each state
that it writes is spelt out, and is a live one.
"""

from asynq_ttl.asynq.lua_reader import LuaCall, LuaText

_TERMINAL = ("archived", "completed")
_WRITES = frozenset(("HSET", "HMSET"))
# Other commands that make a hash, or a field of one. Asynq's scripts use none of them on a task.
_OTHER_WRITES = frozenset(("HSETNX", "HSETEX", "RESTORE", "RENAME", "RENAMENX", "COPY", "MOVE"))


def may_end_tasks(text: bytes) -> bool:
    """Say whether a text may write a terminal state, for all that can be read of it.

    Args:
        text: the script's Lua text.
    """
    lua = LuaText(text.decode("latin-1"))
    return lua.hides_calls() or any(map(lua.mentions, _TERMINAL)) or any(map(_writes_unread, lua.calls))


def _writes_unread(call: LuaCall) -> bool:
    """Say whether a call may write a state that the text does not spell out."""
    if call.command not in _WRITES:
        return call.command in _OTHER_WRITES
    fields = call.args[1:]
    if len(fields) % 2 or not all(name.startswith('"') for name in fields[::2]):
        return True  # names that come from elsewhere
    if fields and fields[-1].endswith((")", "...")):
        return True  # more of them may come from there
    states = (value for name, value in zip(fields[::2], fields[1::2], strict=True) if name == '"state"')
    return not all(state.startswith('"') for state in states)
