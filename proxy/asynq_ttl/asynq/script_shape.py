"""What a script does to Asynq's tasks, told by its calls to Redis. Pure; knows nothing of policies or wrappers.

Asynq's scripts differ from version to version, and forks have their own. So a script is recognised by what it does,
never by its SHA: which state it writes, which list it pops, which index it fills and trims. The same calls tell which
KEYS and ARGV play those parts.

Invariants:

* A text that writes a terminal state in a way that is not understood is `Kind.UNKNOWN`; any other text is `Kind.OTHER`.
  What these do to a task, its text does not tell.
* No text raises.
"""

import re
from dataclasses import dataclass, field, replace
from enum import Enum

from asynq_ttl.asynq.call_arguments import ARGV, KEYS, arg_number, call_matches, find_call, key_number, prefix_number
from asynq_ttl.asynq.lua_reader import LuaCall, LuaText
from asynq_ttl.asynq.script_outcome import refusal, success_says_ended
from asynq_ttl.asynq.script_sources import Source, read_source
from asynq_ttl.asynq.script_trims import read_trims


class Kind(Enum):
    """What a script does to tasks, as far as it matters here. The values name spans and Lua wrappers."""

    COMPLETE = "complete"
    """A worker completes a task that has a Retention."""
    DONE = "done"
    """A worker deletes a task that has succeeded and has none."""
    ENQUEUE = "enqueue"
    """A client adds a task, for now, for later or to a group, unless its ID is taken."""
    ARCHIVE = "archive"
    """A worker archives a task that has failed for the last time."""
    ARCHIVE_ONE = "archive_one"
    """The inspector archives one task, whose type the command does not tell."""
    ARCHIVE_ALL = "archive_all"
    """The inspector archives all tasks of a state."""
    RUN_ONE = "run_one"
    """The inspector runs one task again."""
    RUN_ALL = "run_all"
    """The inspector runs all tasks of an index again."""
    DELETE_ALL = "delete_all"
    """The inspector deletes all tasks of an index."""
    DEQUEUE = "dequeue"
    """A worker polls a queue for its next task."""
    DEQUEUE_TIMED = "dequeue_timed"
    """The same before v0.22: it reads more of a task than its message, and raises where there is no message."""
    JANITOR = "janitor"
    """A server deletes the completed tasks whose Retention is over."""
    RECORD = "record"
    """A scheduler adds to the history of one of its entries that it has enqueued. Others keep such logs too."""
    BY_EFFECT = "by_effect"
    """No text is of this kind: it is how a script that is not understood is wrapped. What it does its tasks show."""
    UNKNOWN = "unknown"
    """It writes a terminal state in a way that is not understood."""
    OTHER = "other"
    """Anything else."""

    __hash__ = object.__hash__  # there is one of each; Enum hashes the name, in Python, at every look-up


@dataclass(frozen=True, slots=True)
class Shape:
    """Which KEYS and ARGV of a script play which part: numbers from 1 as in Lua, 0 where there is none.

    Attributes:
        kind: what the script does.
        task_key: the task key.
        index_key: the terminal index that is filled; for the janitor, the one that is emptied.
        source_key: where a bulk script reads its task IDs; for a dequeue, the pending list.
        pending_key: for the one that runs all of an index again, the list that it fills.
        active_key: the list of active IDs.
        lease_key: the set of leases, which older versions call deadlines.
        lock_key: the uniqueness lock that is taken.
        id_arg: the task ID.
        msg_arg: the encoded TaskMessage.
        time_arg: now; for `complete`, the expiry.
        cutoff_arg: the score up to which the archive is trimmed.
        cap_arg: the number of entries the archive is trimmed to. This and `cutoff_arg` are 0 without such a trim.
        cap_offset: how many entries more than that the script keeps; -1 in Asynq up to v0.26, whose cap is off by one.
        prefix_arg: what task keys start with.
        batch_arg: the most members that the janitor takes.
        history_key: the history that a scheduler adds to.
        source_command: `ZRANGE`, `ZREVRANGE` or `LRANGE`, by which a bulk script reads its source.
        limit_arg: bounds what it reads of it; 0 where no ARGV does.
        limit_offset: it reads up to this rank, and as much further as that ARGV says; -1 without one, to the end.
        says_ended: a reply of OK or 1 says that the task has ended, and of a bulk script any reply but an error; where
            this is False, only the hash does.
        refusal: for `complete`, the error by which it says that the ID is in the index already; it has taken it off the
            active list and the lease by then, and done nothing else. Empty where that is not certain.
    """

    kind: Kind
    task_key: int = 0
    index_key: int = 0
    source_key: int = 0
    pending_key: int = 0
    active_key: int = 0
    lease_key: int = 0
    lock_key: int = 0
    id_arg: int = 0
    msg_arg: int = 0
    time_arg: int = 0
    cutoff_arg: int = 0
    cap_arg: int = 0
    cap_offset: int = -1
    prefix_arg: int = 0
    batch_arg: int = 0
    history_key: int = 0
    source_command: str = ""
    limit_arg: int = 0
    limit_offset: int = -1
    says_ended: bool = field(default=False, compare=False)
    refusal: str = field(default="", compare=False)


OTHER = Shape(Kind.OTHER)
UNKNOWN = Shape(Kind.UNKNOWN)

_TERMINAL = ("archived", "completed")
_NEW = ("pending", "scheduled", "aggregating")
# What a script calls that adds a task.
_NEW_CALLS = ("SET", "EXISTS", "HSET", "HMSET", "LPUSH", "RPUSH", "ZADD", "SADD")
_ADDS = frozenset(("ZADD", "HSET", "LPUSH", "RPUSH"))
_DELETES = ("DEL", "UNLINK")
_TRIMS = frozenset(("ZREMRANGEBYRANK", "ZREMRANGEBYSCORE"))
_EACH = re.compile(r'"?[01]"?')


def classify(text: bytes) -> Shape:
    """Return what a script does; `OTHER` or `UNKNOWN` where that is not understood.

    Args:
        text: the script's Lua text.
    """
    lua = LuaText(text.decode("latin-1"))
    writes = [call for call in lua.calls if _state(call)]
    # A script that writes states in more than one way is not understood.
    write = writes[0] if len({call.args for call in writes}) == 1 else None
    readable = not lua.changes_arguments()
    if any(_state(call) in _TERMINAL for call in writes):
        return (_terminal(lua, write) if write and readable else None) or UNKNOWN
    found = None
    if readable and (write or not writes):
        found = _live(lua.calls, write) if write else _deleting(lua.calls)
    if found is None and any(map(lua.mentions, _TERMINAL)):
        hidden = any(map(_writes_some_state, lua.calls)) or lua.hides_calls()
        return UNKNOWN if hidden else OTHER
    return found or (_recording(lua) if readable and not writes else None) or OTHER


def _fields(call: LuaCall) -> dict[str, str]:
    """Return the fields that an HSET or HMSET writes; none for other commands."""
    if call.command not in ("HSET", "HMSET"):
        return {}
    return dict(zip(call.args[1::2], call.args[2::2], strict=False))


def _state(call: LuaCall) -> str:
    """Return the constant that a call writes to a `state` field; empty where it writes none."""
    state = _fields(call).get('"state"', "")
    return state[1:-1] if state.startswith('"') else ""


def _writes_some_state(call: LuaCall) -> bool:
    """Say whether a call writes a state that the text does not spell out, which may be a terminal one."""
    state = _fields(call).get('"state"', "")
    return bool(state) and not state.startswith('"')


def _terminal(lua: LuaText, write: LuaCall) -> Shape | None:
    """Return the shape of a script that ends tasks; `write` is the call that says so."""
    adds = {call.args for call in lua.calls if call.command == "ZADD" and call_matches(call, (KEYS, ARGV))}
    # A task that ends is put into one index only; a script that fills two is not understood.
    if len(adds) != 1:
        return None
    add = adds.pop()
    if len(add) != 3:
        return None
    shape = _complete(lua, write, add) if _state(write) == "completed" else _archive(lua.calls, write, add)
    return replace(shape, says_ended=success_says_ended(lua, write)) if shape else None


def _complete(lua: LuaText, write: LuaCall, add: tuple[str, ...]) -> Shape | None:
    """Return the shape of a script that completes a task; `add` is how it fills the index."""
    index, time, member = add
    refused, active, lease = refusal(lua)
    shape = Shape(
        Kind.COMPLETE,
        task_key=key_number(write.args[0]),
        index_key=key_number(index),
        active_key=active,
        lease_key=lease,
        id_arg=arg_number(member),
        msg_arg=arg_number(_fields(write).get('"msg"', "")),
        time_arg=arg_number(time),
        refusal=refused,
    )
    return shape if shape.task_key and shape.id_arg and shape.msg_arg else None


def _archive(calls: tuple[LuaCall, ...], write: LuaCall, add: tuple[str, ...]) -> Shape | None:
    """Return the shape of a script that archives one task or all of a source."""
    index, time, member = add
    task, message = key_number(write.args[0]), arg_number(_fields(write).get('"msg"', ""))
    trims = read_trims(calls, index)
    if trims is None:
        return None
    parts = Shape(
        Kind.ARCHIVE,
        task_key=task,
        index_key=key_number(index),
        id_arg=arg_number(member),
        time_arg=arg_number(time),
        cutoff_arg=trims.cutoff_arg,
        cap_arg=trims.cap_arg,
        cap_offset=trims.cap_offset,
        msg_arg=message,
    )
    if task:
        if not parts.id_arg:
            return None
        if message:
            return parts
        return replace(parts, kind=Kind.ARCHIVE_ONE) if _reads_state(calls, write.args[0]) else None
    prefix, source = prefix_number(write.args[0]), read_source(calls, index)
    if not prefix or not source:
        return None
    return _reading(source, replace(parts, kind=Kind.ARCHIVE_ALL, prefix_arg=prefix))


def _live(calls: tuple[LuaCall, ...], write: LuaCall) -> Shape | None:
    """Return the shape of a script that makes tasks live: active, pending, or anew."""
    if _state(write) == "active":
        return _dequeue(calls, write)
    if _state(write) in _NEW and '"msg"' in _fields(write):
        return _enqueue(calls, write)
    return _run(calls, write) if _state(write) == "pending" else None


def _dequeue(calls: tuple[LuaCall, ...], write: LuaCall) -> Shape | None:
    """Return the shape of a script by which a worker takes a task off its queue."""
    move = find_call(calls, "RPOPLPUSH", KEYS, KEYS) or find_call(calls, "LMOVE", KEYS, KEYS, '"RIGHT"', '"LEFT"')
    lease = find_call(calls, "ZADD", KEYS)
    prefix = prefix_number(write.args[0])
    lone = find_call(calls, "HGET", write.args[0], '"msg"')
    timed = find_call(calls, "HMGET", write.args[0], '"msg"')
    if not move or not lease or not prefix or not (lone or timed):
        return None
    return Shape(
        Kind.DEQUEUE_TIMED if timed else Kind.DEQUEUE,
        source_key=key_number(move.args[0]),
        active_key=key_number(move.args[1]),
        lease_key=key_number(lease.args[0]),
        prefix_arg=prefix,
    )


def _enqueue(calls: tuple[LuaCall, ...], write: LuaCall) -> Shape | None:
    """Return the shape of a script that adds a task if there is none with its ID, and may run twice.

    So it takes the lock, if any, and looks whether the ID is taken, before it writes anything else.
    """
    task, message = write.args[0], arg_number(_fields(write)['"msg"'])
    before = [call for call in calls[: calls.index(write)] if call.args != (task,) or call.command != "EXISTS"]
    asks = len(before) < calls.index(write)
    locks = [call for call in calls if call.command == "SET"]
    adds = all(call.command in _NEW_CALLS for call in calls)
    if not (key_number(task) and message and asks and adds and before == locks) or len(locks) > 1:
        return None
    if locks and not (key_number(locks[0].args[0]) and '"NX"' in locks[0].args):
        return None
    return Shape(
        Kind.ENQUEUE, task_key=key_number(task), msg_arg=message, lock_key=key_number(locks[0].args[0]) if locks else 0
    )


def _run(calls: tuple[LuaCall, ...], write: LuaCall) -> Shape | None:
    """Return the shape of an inspector's script that runs one task again, or all of an index."""
    push = find_call(calls, "LPUSH", KEYS) or find_call(calls, "RPUSH", KEYS)
    if '"msg"' in _fields(write) or not push:
        return None
    task, prefix = key_number(write.args[0]), prefix_number(write.args[0])
    if task:
        return Shape(Kind.RUN_ONE, task_key=task) if _reads_state(calls, write.args[0]) else None
    source = read_source(calls)
    if not prefix or not source or source.command == "LRANGE":
        return None
    return _reading(source, Shape(Kind.RUN_ALL, pending_key=key_number(push.args[0]), prefix_arg=prefix))


def _deleting(calls: tuple[LuaCall, ...]) -> Shape | None:
    """Return the shape of a script that writes no state, but deletes tasks."""
    return _janitor(calls) or _delete_all(calls) or _done(calls)


def _done(calls: tuple[LuaCall, ...]) -> Shape | None:
    """Return the shape of a script that takes a task off the active list and the lease, and deletes its hash."""
    taken, leased = find_call(calls, "LREM", KEYS, _EACH, ARGV), find_call(calls, "ZREM", KEYS, ARGV)
    if not taken or not leased or any(call.command in _ADDS for call in calls):
        return None
    # What is read before it is deleted is the uniqueness lock.
    locks = {call.args[0] for call in calls if call.command == "GET" and call.args}
    deleted = {call.args[0] for call in calls if call.command in _DELETES and len(call.args) == 1} - locks
    task = key_number(deleted.pop()) if len(deleted) == 1 else 0
    if not task or taken.args[2] != leased.args[1]:
        return None
    return Shape(
        Kind.DONE,
        task_key=task,
        active_key=key_number(taken.args[0]),
        lease_key=key_number(leased.args[0]),
        id_arg=arg_number(taken.args[2]),
    )


def _janitor(calls: tuple[LuaCall, ...]) -> Shape | None:
    """Return the shape of a script that deletes the completed tasks whose time is over."""
    due = find_call(calls, "ZRANGEBYSCORE", KEYS, '"-inf"', ARGV)
    if not due or any(call.command in _ADDS for call in calls):
        return None
    drops = any(call.command == "ZREM" and call.args[:1] == due.args[:1] for call in calls)
    prefix = _deleted_prefix(calls)
    if not drops or not prefix:
        return None
    limited = due.args[3:4] == ('"LIMIT"',) and len(due.args) == 6
    batch = arg_number(due.args[5]) if limited else 0
    if not batch:
        return None
    return Shape(
        Kind.JANITOR,
        index_key=key_number(due.args[0]),
        time_arg=arg_number(due.args[2]),
        prefix_arg=prefix,
        batch_arg=batch,
    )


def _delete_all(calls: tuple[LuaCall, ...]) -> Shape | None:
    """Return the shape of an inspector's script that empties an index."""
    source = read_source(calls)
    if not source or source.command == "LRANGE" or any(call.command in _ADDS for call in calls):
        return None
    index = f"KEYS[{source.key}]"
    empties = any(call.command in (*_DELETES, "ZREM") and call.args[:1] == (index,) for call in calls)
    prefix = _deleted_prefix(calls)
    if not empties or not prefix:
        return None
    return _reading(source, Shape(Kind.DELETE_ALL, prefix_arg=prefix))


def _recording(lua: LuaText) -> Shape | None:
    """Return the shape of a script that adds to a log, trims it, and does nothing else; None for any other."""
    adds = [call.args for call in lua.calls if call.command == "ZADD" and call_matches(call, (KEYS, ARGV, ARGV))]
    if len(adds) != 1 or len(adds[0]) != 3 or lua.hides_calls():
        return None
    log = adds[0][0]
    rest = [call for call in lua.calls if call.args != adds[0]]
    if not rest or len(rest) != len(lua.calls) - 1:
        return None
    if not all(call.command in _TRIMS and call.args[:1] == (log,) for call in rest):
        return None
    return Shape(Kind.RECORD, history_key=key_number(log))


def _reading(source: Source, shape: Shape) -> Shape:
    """Return the shape of a bulk script, with what it reads."""
    return replace(
        shape,
        source_key=source.key,
        source_command=source.command,
        limit_arg=source.limit_arg,
        limit_offset=source.limit_offset,
    )


def _deleted_prefix(calls: tuple[LuaCall, ...]) -> int:
    """Return the ARGV number of the prefix of the task keys that a script deletes; 0 where it deletes none."""
    prefixes = (prefix_number(call.args[0]) for call in calls if call.command in _DELETES and call.args)
    return next((prefix for prefix in prefixes if prefix), 0)


def _reads_state(calls: tuple[LuaCall, ...], task: str) -> bool:
    """Say whether a script looks at the state of a task before it moves it, as the inspector's scripts do."""
    return any(
        call.command in ("HGET", "HMGET") and call.args[:1] == (task,) and '"state"' in call.args for call in calls
    )
