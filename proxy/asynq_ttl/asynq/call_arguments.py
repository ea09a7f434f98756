"""What the arguments of a script's calls to Redis say, as they are written: which call, which KEYS, which ARGV. Pure.

Invariant: an expression that is not exactly of the form asked for has the number 0, which no KEYS or ARGV has.
"""

import re

from asynq_ttl.asynq.lua_reader import LuaCall

# Patterns of one argument. Lua counts from 1, and Asynq's scripts take less than ten of each.
_NUMBER = r"\[([1-9][0-9]?)\]"
KEYS = re.compile(rf"KEYS{_NUMBER}")
ARGV = re.compile(rf"(?:tonumber\()?ARGV{_NUMBER}\)?")
_PREFIXED = re.compile(rf"ARGV{_NUMBER}\.\.\w+")


def find_call(calls: tuple[LuaCall, ...], command: str, *patterns: str | re.Pattern[str]) -> LuaCall | None:
    """Return the first call of a command whose leading arguments match, or None."""
    return next((call for call in calls if call.command == command and call_matches(call, patterns)), None)


def call_matches(call: LuaCall, patterns: tuple[str | re.Pattern[str], ...]) -> bool:
    """Say whether the leading arguments of a call match."""
    return len(call.args) >= len(patterns) and all(
        arg == pattern if isinstance(pattern, str) else pattern.fullmatch(arg) is not None
        for arg, pattern in zip(call.args, patterns, strict=False)
    )


def _number(pattern: re.Pattern[str], expression: str) -> int:
    found = pattern.fullmatch(expression)
    return int(found[1]) if found else 0


def key_number(expression: str) -> int:
    """Return n where an expression is `KEYS[n]`, else 0."""
    return _number(KEYS, expression)


def arg_number(expression: str) -> int:
    """Return n where an expression is `ARGV[n]`, as a number or not, else 0."""
    return _number(ARGV, expression)


def prefix_number(expression: str) -> int:
    """Return n where an expression is `ARGV[n] .. id`, else 0."""
    return _number(_PREFIXED, expression)
