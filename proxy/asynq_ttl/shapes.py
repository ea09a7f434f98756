"""What a Lua script does, read from its text. Pure; knows nothing of policies or wrappers.

Asynq's scripts differ from version to version and forks have their own, so a script is recognised by what it
does: which state it writes, which list it pops, which index it fills and trims, and which KEYS and ARGV play
those parts. A text that writes a terminal state in a way that is not understood is `Kind.UNKNOWN`; any other text
is `Kind.OTHER`. Neither is ever wrapped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a script does to tasks, as far as it matters here. Values name the span and the Lua wrapper."""

    COMPLETE = "complete"
    ARCHIVE = "archive"
    ARCHIVE_ONE = "archive_one"
    ARCHIVE_ALL = "archive_all"
    RUN_ONE = "run_one"
    RUN_ALL = "run_all"
    DEQUEUE = "dequeue"
    JANITOR = "janitor"
    UNKNOWN = "unknown"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Shape:
    """Which KEYS and ARGV of a script play which part: numbers from 1 as in Lua, 0 where there is none.

    Attributes:
        kind: what the script does.
        task_key: the task key.
        index_key: the terminal index that is filled (or swept, for the janitor).
        source_key: where a bulk script takes its IDs from.
        active_key: the list of active IDs.
        lease_key: the set of leases (or deadlines).
        id_arg: the task ID.
        msg_arg: the encoded TaskMessage.
        time_arg: now, or for `complete` the expiry score.
        cutoff_arg: the score up to which the archive is trimmed.
        cap_arg: the number of entries the archive is trimmed to.
        prefix_arg: the task key prefix.
        batch_arg: the most members the janitor takes.
        source_command: `ZRANGE` or `LRANGE`, by which a bulk script reads its source.
    """

    kind: Kind
    task_key: int = 0
    index_key: int = 0
    source_key: int = 0
    active_key: int = 0
    lease_key: int = 0
    id_arg: int = 0
    msg_arg: int = 0
    time_arg: int = 0
    cutoff_arg: int = 0
    cap_arg: int = 0
    prefix_arg: int = 0
    batch_arg: int = 0
    source_command: str = ""


OTHER = Shape(Kind.OTHER)
UNKNOWN = Shape(Kind.UNKNOWN)


def classify(text: bytes) -> Shape:
    """Read what a script does from its Lua text. Never raises: what is not understood is OTHER or UNKNOWN."""
    calls = tuple(_calls(text.decode("latin-1")))
    states = {state for call in calls for state in call.states()}
    if "completed" in states:
        return _complete(calls) or UNKNOWN
    if "archived" in states:
        return _archive(calls) or UNKNOWN
    if "active" in states:
        return _dequeue(calls) or OTHER
    if "pending" in states:
        return _run(calls) or OTHER
    return _janitor(calls) or OTHER


@dataclass(frozen=True, slots=True)
class _Call:
    """One `redis.call(...)` of a script: the command in upper case and its arguments as canonical text."""

    command: str
    args: tuple[str, ...]

    def states(self) -> tuple[str, ...]:
        """Return the constants that the call writes to a `state` field."""
        state = self.fields().get('"state"', "")
        return (state[1:-1],) if state.startswith('"') else ()

    def fields(self) -> dict[str, str]:
        """Return the fields an HSET or HMSET writes; empty for other commands."""
        if self.command not in ("HSET", "HMSET"):
            return {}
        return dict(zip(self.args[1::2], self.args[2::2], strict=False))


def _complete(calls: tuple[_Call, ...]) -> Shape | None:
    write = _write(calls, "completed")
    task = _key(write.args[0])
    add = _find(calls, "ZADD", _KEYS, _ARGV, _ARGV)
    message = _arg(write.fields().get('"msg"', ""))
    if not task or not add or not message:
        return None
    return Shape(
        Kind.COMPLETE,
        task_key=task,
        index_key=_key(add.args[0]),
        id_arg=_arg(add.args[2]),
        msg_arg=message,
        time_arg=_arg(add.args[1]),
    )


def _archive(calls: tuple[_Call, ...]) -> Shape | None:
    write = _write(calls, "archived")
    adds = [call for call in calls if call.command == "ZADD" and _matches(call, (_KEYS, _ARGV))]
    # A task that fails is put into one index only; a script that fills two is not understood.
    if len({add.args[0] for add in adds}) != 1:
        return None
    index, time, member = adds[0].args[:3]
    task, message = _key(write.args[0]), _arg(write.fields().get('"msg"', ""))
    cutoff, cap = _trims(calls, index)
    parts = Shape(
        Kind.ARCHIVE,
        task_key=task,
        index_key=_key(index),
        id_arg=_arg(member),
        time_arg=_arg(time),
        cutoff_arg=cutoff,
        cap_arg=cap,
        msg_arg=message,
    )
    if not cutoff or not cap:
        return None
    if task:
        if not parts.id_arg:
            return None
        return parts if message else _with(parts, kind=Kind.ARCHIVE_ONE)
    prefix, source = _prefix(write.args[0]), _source(calls)
    if not prefix or not source:
        return None
    return _with(
        parts,
        kind=Kind.ARCHIVE_ALL,
        prefix_arg=prefix,
        source_key=_key(source.args[0]),
        source_command=source.command,
    )


def _dequeue(calls: tuple[_Call, ...]) -> Shape | None:
    write = _write(calls, "active")
    move = _find(calls, "RPOPLPUSH", _KEYS, _KEYS) or _find(calls, "LMOVE", _KEYS, _KEYS, '"RIGHT"', '"LEFT"')
    lease = _find(calls, "ZADD", _KEYS)
    prefix = _prefix(write.args[0])
    if not move or not lease or not prefix:
        return None
    return Shape(
        Kind.DEQUEUE,
        source_key=_key(move.args[0]),
        active_key=_key(move.args[1]),
        lease_key=_key(lease.args[0]),
        prefix_arg=prefix,
    )


def _run(calls: tuple[_Call, ...]) -> Shape | None:
    write = _write(calls, "pending")
    if '"msg"' in write.fields() or not (_find(calls, "LPUSH", _KEYS) or _find(calls, "RPUSH", _KEYS)):
        return None
    task, prefix = _key(write.args[0]), _prefix(write.args[0])
    if task:
        reads_state = any(
            call.command in ("HGET", "HMGET") and call.args[:1] == write.args[:1] and '"state"' in call.args
            for call in calls
        )
        return Shape(Kind.RUN_ONE, task_key=task) if reads_state else None
    source = _source(calls)
    if not prefix or not source or source.command != "ZRANGE":
        return None
    return Shape(Kind.RUN_ALL, source_key=_key(source.args[0]), prefix_arg=prefix)


def _janitor(calls: tuple[_Call, ...]) -> Shape | None:
    due = _find(calls, "ZRANGEBYSCORE", _KEYS, '"-inf"', _ARGV)
    if not due or any(call.command in ("ZADD", "HSET", "LPUSH", "RPUSH") for call in calls):
        return None
    prefixes = [_prefix(call.args[0]) for call in calls if call.command in ("DEL", "UNLINK") and call.args]
    drops = any(call.command == "ZREM" and call.args[:1] == due.args[:1] for call in calls)
    if not drops or not any(prefixes):
        return None
    limited = due.args[3:4] == ('"LIMIT"',) and len(due.args) == 6
    batch = _arg(due.args[5]) if limited else 0
    if not batch:
        return None
    return Shape(
        Kind.JANITOR,
        index_key=_key(due.args[0]),
        time_arg=_arg(due.args[2]),
        prefix_arg=next(prefix for prefix in prefixes if prefix),
        batch_arg=batch,
    )


def _write(calls: tuple[_Call, ...], state: str) -> _Call:
    """Return the call that writes a state; there is one."""
    return next(call for call in calls if state in call.states())


def _source(calls: tuple[_Call, ...]) -> _Call | None:
    """Return the call by which a bulk script reads all IDs of its source."""
    return _find(calls, "ZRANGE", _KEYS, "0", "-1") or _find(calls, "LRANGE", _KEYS, "0", "-1")


def _trims(calls: tuple[_Call, ...], index: str) -> tuple[int, int]:
    """Return the ARGV numbers of the score and of the count to which an index is trimmed."""
    cutoff = cap = 0
    for call in calls:
        if call.args[:1] != (index,):
            continue
        by_score = call.command in ("ZREMRANGEBYSCORE", "ZRANGEBYSCORE") or '"BYSCORE"' in call.args
        if by_score and _matches(call, (index, '"-inf"', _ARGV)):
            cutoff = _arg(call.args[2])
        elif call.command in ("ZREMRANGEBYRANK", "ZRANGE") and _matches(call, (index, "0", _MINUS_ARGV)):
            cap = _arg(call.args[2][1:])
    return cutoff, cap


_KEYS = re.compile(r"KEYS\[(\d+)\]")
_ARGV = re.compile(r"(?:tonumber\()?ARGV\[(\d+)\]\)?")
_MINUS_ARGV = re.compile(r"-(?:tonumber\()?ARGV\[(\d+)\]\)?")
_PREFIXED = re.compile(r"ARGV\[(\d+)\]\.\.\w+")


def _find(calls: tuple[_Call, ...], command: str, *patterns: str | re.Pattern[str]) -> _Call | None:
    """Return the first call of a command whose leading arguments match, or None."""
    return next((call for call in calls if call.command == command and _matches(call, patterns)), None)


def _matches(call: _Call, patterns: tuple[str | re.Pattern[str], ...]) -> bool:
    return len(call.args) >= len(patterns) and all(
        arg == pattern if isinstance(pattern, str) else pattern.fullmatch(arg) is not None
        for arg, pattern in zip(call.args, patterns, strict=False)
    )


def _number(pattern: re.Pattern[str], expression: str) -> int:
    found = pattern.fullmatch(expression)
    return int(found[1]) if found else 0


def _key(expression: str) -> int:
    return _number(_KEYS, expression)


def _arg(expression: str) -> int:
    return _number(_ARGV, expression)


def _prefix(expression: str) -> int:
    """Return n where an expression is `ARGV[n] .. id`."""
    return _number(_PREFIXED, expression)


def _with(shape: Shape, **changes: int | str | Kind) -> Shape:
    fields = {name: getattr(shape, name) for name in Shape.__slots__}
    return Shape(**{**fields, **changes})


# --- reading Lua -------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""
      (?P<comment> --\[\[.*?\]\] | --[^\n]* )
    | (?P<string>  "(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*' | \[\[.*?\]\] )
    | (?P<name>    [A-Za-z_]\w* )
    | (?P<number>  \d+(?:\.\d+)? )
    | (?P<symbol>  \.\. | [^\s\w] )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
# What after a term says that the expression is more than terms joined by `..`.
_CONTINUES = frozenset((*".([{:+-*/%^=<>~", "and", "or"))


def _calls(text: str) -> Iterator[_Call]:
    """Yield every `redis.call` and `redis.pcall` of a Lua text, in order, with local names resolved."""
    tokens = [_canonical(match) for match in _TOKEN.finditer(text) if match.lastgroup != "comment"]
    names: dict[str, str] = {}
    for position, token in enumerate(tokens):
        if token == "local" and tokens[position + 2 : position + 3] == ["="]:
            names[tokens[position + 1]] = _expression(tokens, position + 3, names) or tokens[position + 1]
        elif token == "redis" and tokens[position + 1 : position + 2] == ["."]:
            if tokens[position + 2 : position + 3] not in (["call"], ["pcall"]):
                continue
            args = _arguments(tokens, position + 3, names)
            if args and args[0].startswith('"'):
                yield _Call(args[0][1:-1].upper(), tuple(args[1:]))


def _canonical(match: re.Match[str]) -> str:
    token = match[0]
    if match.lastgroup != "string":
        return token
    body = token[2:-2] if token.startswith("[[") else token[1:-1]
    return f'"{body}"'


def _arguments(tokens: list[str], position: int, names: dict[str, str]) -> list[str]:
    """Return the arguments between the parenthesis at `position` and its partner, as canonical text."""
    if tokens[position : position + 1] != ["("]:
        return []
    args: list[list[str]] = [[]]
    depth = 0
    for token in tokens[position:]:
        if token in _CLOSE:
            depth -= 1
            if depth == 0:
                break
        if depth == 1 and token == ",":
            args.append([])
        elif depth > 0:
            args[-1].append(names.get(token, token))
        if token in _OPEN:
            depth += 1
    return ["".join(arg) for arg in args]


def _expression(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return a simple expression (terms joined by `..`) as canonical text; empty for anything else.

    A local name that stands for something else keeps its own name: it is nobody's alias.
    """
    terms: list[str] = []
    while True:
        token = tokens[position] if position < len(tokens) else ""
        if token in ("KEYS", "ARGV") and tokens[position + 1 : position + 4 : 2] == ["[", "]"]:
            terms.append("".join(tokens[position : position + 4]))
            position += 4
        elif token.startswith('"') or re.fullmatch(r"[A-Za-z_]\w*", token):
            terms.append(names.get(token, token))
            position += 1
        else:
            return ""
        following = tokens[position] if position < len(tokens) else ""
        if following != "..":
            return "" if following in _CONTINUES else "..".join(terms)
        position += 1
