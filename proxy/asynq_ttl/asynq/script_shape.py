"""What a Lua script does, read from its text. Pure; knows nothing of policies or wrappers.

Asynq's scripts differ from version to version and forks have their own, so a script is recognised by what it
does: which state it writes, which list it pops, which index it fills and trims, and which KEYS and ARGV play
those parts. A text that writes a terminal state in a way that is not understood is `Kind.UNKNOWN`; any other
text is `Kind.OTHER`. Neither is ever wrapped.
"""

import re
from collections import Counter
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
    DELETE_ALL = "delete_all"
    DEQUEUE = "dequeue"
    DEQUEUE_TIMED = "dequeue_timed"
    """A dequeue that reads more of a task than its message (before v0.22), and raises where there is none."""
    JANITOR = "janitor"
    UNKNOWN = "unknown"
    OTHER = "other"

    __hash__ = object.__hash__  # there is one of each; Enum hashes the name, in Python, at every look-up


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
    tokens = _tokens(text.decode("latin-1"))
    bound = _bindings(tokens)
    calls = tuple(_calls(tokens, bound))
    readable = not _changes_arguments(tokens, bound)
    writes = [call for call in calls if call.state()]
    # A script that writes states in more than one way is not understood.
    write = writes[0] if len({call.args for call in writes}) == 1 else None
    if any(call.state() in ("completed", "archived") for call in writes):
        return (_terminal(calls, write) if write and readable else None) or UNKNOWN
    found = None
    if readable and (write or not writes):
        found = _live(calls, write) if write else _janitor(calls) or _delete_all(calls)
    if found is None and _TERMINAL & set(tokens):
        hidden = any(call.vague() for call in calls) or _hides_calls(tokens, bound)
        return UNKNOWN if hidden else OTHER
    return found or OTHER


@dataclass(frozen=True, slots=True)
class _Call:
    """One `redis.call(...)` of a script: the command in upper case and its arguments as canonical text."""

    command: str
    args: tuple[str, ...]

    def state(self) -> str:
        """Return the constant that the call writes to a `state` field; empty where it writes none."""
        state = self.fields().get('"state"', "")
        return state[1:-1] if state.startswith('"') else ""

    def vague(self) -> bool:
        """Say whether the call writes a state that the text does not tell, which may be a terminal one."""
        state = self.fields().get('"state"', "")
        return bool(state) and not state.startswith('"')

    def fields(self) -> dict[str, str]:
        """Return the fields an HSET or HMSET writes; empty for other commands."""
        if self.command not in ("HSET", "HMSET"):
            return {}
        return dict(zip(self.args[1::2], self.args[2::2], strict=False))


def _terminal(calls: tuple[_Call, ...], write: _Call) -> Shape | None:
    adds = {call.args for call in calls if call.command == "ZADD" and _matches(call, (_KEYS, _ARGV))}
    # A task that ends is put into one index only; a script that fills two is not understood.
    if len(adds) != 1:
        return None
    add = adds.pop()
    if len(add) != 3:
        return None
    return _complete(write, add) if write.state() == "completed" else _archive(calls, write, add)


def _complete(write: _Call, add: tuple[str, ...]) -> Shape | None:
    index, time, member = add
    shape = Shape(
        Kind.COMPLETE,
        task_key=_key(write.args[0]),
        index_key=_key(index),
        id_arg=_arg(member),
        msg_arg=_arg(write.fields().get('"msg"', "")),
        time_arg=_arg(time),
    )
    return shape if shape.task_key and shape.id_arg and shape.msg_arg else None


def _archive(calls: tuple[_Call, ...], write: _Call, add: tuple[str, ...]) -> Shape | None:
    index, time, member = add
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
        if message:
            return parts
        return _with(parts, kind=Kind.ARCHIVE_ONE) if _reads_state(calls, write.args[0]) else None
    prefix, source = _prefix(write.args[0]), _source(calls, index)
    if not prefix or not source:
        return None
    return _with(
        parts,
        kind=Kind.ARCHIVE_ALL,
        prefix_arg=prefix,
        source_key=_key(source.args[0]),
        source_command=source.command,
    )


def _live(calls: tuple[_Call, ...], write: _Call) -> Shape | None:
    if write.state() == "active":
        return _dequeue(calls, write)
    return _run(calls, write) if write.state() == "pending" else None


def _dequeue(calls: tuple[_Call, ...], write: _Call) -> Shape | None:
    move = _find(calls, "RPOPLPUSH", _KEYS, _KEYS) or _find(calls, "LMOVE", _KEYS, _KEYS, '"RIGHT"', '"LEFT"')
    lease = _find(calls, "ZADD", _KEYS)
    prefix = _prefix(write.args[0])
    lone = _find(calls, "HGET", write.args[0], '"msg"')
    timed = _find(calls, "HMGET", write.args[0], '"msg"')
    if not move or not lease or not prefix or not (lone or timed):
        return None
    return Shape(
        Kind.DEQUEUE_TIMED if timed else Kind.DEQUEUE,
        source_key=_key(move.args[0]),
        active_key=_key(move.args[1]),
        lease_key=_key(lease.args[0]),
        prefix_arg=prefix,
    )


def _run(calls: tuple[_Call, ...], write: _Call) -> Shape | None:
    if '"msg"' in write.fields() or not (_find(calls, "LPUSH", _KEYS) or _find(calls, "RPUSH", _KEYS)):
        return None
    task, prefix = _key(write.args[0]), _prefix(write.args[0])
    if task:
        return Shape(Kind.RUN_ONE, task_key=task) if _reads_state(calls, write.args[0]) else None
    source = _source(calls)
    if not prefix or not source or source.command != "ZRANGE":
        return None
    return Shape(Kind.RUN_ALL, source_key=_key(source.args[0]), prefix_arg=prefix)


def _janitor(calls: tuple[_Call, ...]) -> Shape | None:
    due = _find(calls, "ZRANGEBYSCORE", _KEYS, '"-inf"', _ARGV)
    if not due or any(call.command in _ADDS for call in calls):
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


def _delete_all(calls: tuple[_Call, ...]) -> Shape | None:
    source = _source(calls)
    if not source or source.command != "ZRANGE" or any(call.command in _ADDS for call in calls):
        return None
    prefixes = [_prefix(call.args[0]) for call in calls if call.command in ("DEL", "UNLINK") and call.args]
    empties = any(call.command in ("DEL", "UNLINK") and call.args[:1] == source.args[:1] for call in calls)
    if not empties or not any(prefixes):
        return None
    return Shape(
        Kind.DELETE_ALL,
        source_key=_key(source.args[0]),
        prefix_arg=next(prefix for prefix in prefixes if prefix),
    )


def _reads_state(calls: tuple[_Call, ...], task: str) -> bool:
    """Say whether a script looks at the state of a task before it moves it, as the inspector's scripts do."""
    return any(
        call.command in ("HGET", "HMGET") and call.args[:1] == (task,) and '"state"' in call.args for call in calls
    )


def _source(calls: tuple[_Call, ...], index: str = "") -> _Call | None:
    """Return the call by which a bulk script reads all IDs of its source; None where it reads anything else.

    Args:
        calls: the script's calls.
        index: the index that the script trims, where it does: reading that is not meant.
    """
    reads = {call for call in calls if call.command in _READS and call.args[:1] != (index,)}
    if len(reads) != 1:
        return None
    return _find(tuple(reads), "ZRANGE", _KEYS, "0", "-1") or _find(tuple(reads), "LRANGE", _KEYS, "0", "-1")


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


# Lua counts from 1, and Asynq's scripts take less than ten of each.
_NUMBER = r"\[([1-9][0-9]?)\]"
_KEYS = re.compile(rf"KEYS{_NUMBER}")
_ARGV = re.compile(rf"(?:tonumber\()?ARGV{_NUMBER}\)?")
_MINUS_ARGV = re.compile(rf"-(?:tonumber\()?ARGV{_NUMBER}\)?")
_ADDS = frozenset(("ZADD", "HSET", "LPUSH", "RPUSH"))
_READS = frozenset(("ZRANGE", "ZRANGEBYSCORE", "ZRANGEBYLEX", "ZREVRANGE", "ZREVRANGEBYSCORE", "LRANGE", "SMEMBERS"))
_PREFIXED = re.compile(rf"ARGV{_NUMBER}\.\.\w+")


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

# Security limits: no text may be slow to read, or grow while it is read. Asynq's longest call has about 40
# tokens, its longest expression 20 characters.
_MAX_TOKENS = 200
_MAX_EXPRESSION = 100

# A string or comment without an end takes the rest of the text, which Lua would refuse.
_TOKEN = re.compile(
    r"""
      (?P<comment> --\[(?P<c>=*)\[.*?(?:\](?P=c)\]|\Z) | --[^\n]* )
    | (?P<string>  (?P<q>["'])(?:\\(?:.|\Z)|(?!(?P=q))[^\\])*+(?:(?P=q)|\Z) | \[(?P<s>=*)\[.*?(?:\](?P=s)\]|\Z) )
    | (?P<name>    [A-Za-z_]\w* )
    | (?P<number>  \d+(?:\.\d+)? )
    | (?P<symbol>  \.\. | [=~<>]= | [^\s\w] )
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_CALLERS = (["redis", ".", "call"], ["redis", ".", "pcall"])
_TERMINAL = frozenset(('"archived"', '"completed"'))
# What may be done to a whole table of arguments: it is counted, unpacked or gone through.
_READERS = (["unpack", "("], ["ipairs", "("], ["pairs", "("], ["getn", "("])
# What after a term says that the expression is more than terms joined by `..`.
_CONTINUES = frozenset((*".([{:+-*/%^<>", "==", "~=", "<=", ">=", "and", "or"))


def _tokens(text: str) -> list[str]:
    """Split a Lua text into tokens, without comments; strings all come out in double quotes."""
    return [_canonical(match) for match in _TOKEN.finditer(text) if match.lastgroup != "comment"]


def _canonical(match: re.Match[str]) -> str:
    word = match[0]
    if match.lastgroup != "string":
        return word
    width = 1 if match["s"] is None else 2 + len(match["s"])
    return f'"{word[width:-width]}"'


def _changes_arguments(tokens: list[str], bound: Counter[str]) -> bool:
    """Say whether a text may change the tables KEYS and ARGV: their numbers would not mean what they say."""
    tables = {"KEYS", "ARGV"}
    for position, word in enumerate(tokens):
        if word in tables and tokens[position + 1 : position + 2] != ["["]:
            before = tokens[max(position - 3, 0) : position]
            if before[:1] == ["local"] and before[2:] == ["="]:
                tables.add(before[1])
            elif before[-1:] != ["#"] and before[-2:] not in _READERS and before[-1:] != ["local"]:
                return True
    return any(bound[name] > (name not in ("KEYS", "ARGV")) for name in tables)


def _bindings(tokens: list[str]) -> Counter[str]:
    """Count how often each name is given a value.

    A name that is given more than one is nobody's alias: to know which one holds where takes a whole Lua.
    """
    bound: Counter[str] = Counter()
    for position, word in enumerate(tokens):
        if word in ("=", "in"):
            bound.update(_targets(tokens, position - 1))
        elif word == "function":
            head = tokens[position + 1 : position + _MAX_TOKENS]
            bound.update(head[: head.index(")")] if ")" in head else head)
    return bound


def _targets(tokens: list[str], position: int) -> Iterator[str]:
    """Yield the names in a list of assignment targets that ends at `position`; of `name[...]` the name."""
    depth = 0
    name_expected = True
    for word in reversed(tokens[max(position - _MAX_TOKENS, 0) : position + 1]):
        depth += (word == "]") - (word == "[")
        if depth or word == "[":
            continue
        if name_expected and _NAME.fullmatch(word):
            yield word
        elif name_expected or word not in (",", "."):
            return
        name_expected = not name_expected


def _calls(tokens: list[str], bound: Counter[str]) -> Iterator[_Call]:
    """Yield every `redis.call` and `redis.pcall` of a Lua text, in order, with local names resolved."""
    names: dict[str, str] = {}
    callers = _callers(tokens, bound)
    for position, word in enumerate(tokens):
        if word == "local" and tokens[position + 2 : position + 3] == ["="]:
            name = tokens[position + 1]
            if bound[name] == 1:
                names[name] = _expression(tokens, position + 3, names) or name
        elif tokens[position : position + 3] in _CALLERS or _is_call(tokens, position, callers):
            args = _arguments(tokens, position + (1 if word in callers else 3), names)
            if args and args[0].startswith('"'):
                yield _Call(args[0][1:-1].upper(), tuple(args[1:]))


def _callers(tokens: list[str], bound: Counter[str]) -> set[str]:
    """Return the local names that stand for `redis.call` or `redis.pcall`."""
    return {
        tokens[position + 1]
        for position, word in enumerate(tokens)
        if word == "local"
        and tokens[position + 2 : position + 3] == ["="]
        and tokens[position + 3 : position + 6] in _CALLERS
        and tokens[position + 6 : position + 7] != ["("]
        and bound[tokens[position + 1]] == 1
    }


def _is_call(tokens: list[str], position: int, callers: set[str]) -> bool:
    """Say whether a name for `redis.call` is called at a position."""
    return (
        tokens[position] in callers
        and tokens[position + 1 : position + 2] == ["("]
        and tokens[position - 1 : position] not in ([["."], [":"]])
    )


def _hides_calls(tokens: list[str], bound: Counter[str]) -> bool:
    """Say whether a text may call Redis in a way that is not read: by another name, or without spelling the command."""
    callers = _callers(tokens, bound)
    for position, word in enumerate(tokens):
        if word == "redis" and tokens[position + 1 : position + 2] != ["."]:
            return True
        spelt = 3 if tokens[position : position + 3] in _CALLERS else 0
        if _is_call(tokens, position, callers):
            spelt = 1
        elif spelt and tokens[position + 3 : position + 4] != ["("]:
            spelt = 0
            if tokens[position - 3 : position - 2] != ["local"] or tokens[position - 2] not in callers:
                return True
        if spelt and not "".join(tokens[position + spelt + 1 : position + spelt + 2]).startswith('"'):
            return True
    return False


def _arguments(tokens: list[str], position: int, names: dict[str, str]) -> list[str]:
    """Return the arguments between the parenthesis at `position` and its partner, as canonical text."""
    if tokens[position : position + 1] != ["("]:
        return []
    args: list[list[str]] = [[]]
    depth = 0
    for word in tokens[position : position + _MAX_TOKENS]:
        if word in _CLOSE:
            depth -= 1
            if depth == 0:
                return ["".join(arg) for arg in args]
        if depth == 1 and word == ",":
            args.append([])
        elif depth > 0:
            args[-1].append(names.get(word, word))
        if word in _OPEN:
            depth += 1
    return []


def _expression(tokens: list[str], position: int, names: dict[str, str]) -> str:
    """Return a simple expression (terms joined by `..`) as canonical text; empty for anything else.

    A local name that stands for something else keeps its own name: it is nobody's alias.
    """
    terms: list[str] = []
    while sum(map(len, terms)) <= _MAX_EXPRESSION:
        word = tokens[position] if position < len(tokens) else ""
        term = names.get(word, word)
        if term in ("KEYS", "ARGV") and tokens[position + 1 : position + 4 : 2] == ["[", "]"]:
            terms.append("".join((term, *tokens[position + 1 : position + 4])))
            position += 4
        elif word.startswith('"') or _NAME.fullmatch(word):
            terms.append(term)
            position += 1
        else:
            return ""
        following = tokens[position] if position < len(tokens) else ""
        if following != "..":
            return "" if following in _CONTINUES else "..".join(terms)
        position += 1
    return ""
