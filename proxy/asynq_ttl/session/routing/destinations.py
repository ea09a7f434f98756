"""Where a command goes in a cluster: by its first key, or by what it is. Pure.

Most commands have their first key right behind their name, those of modules too, so only the others are listed. All
that is said about a command stands in one row. Where nearly every command goes also has a compiled answer
(`_destinations.c`); where that was not built, the one here is used.

Source: the Redis documentation, "Key specifications"; `tests/integration/session/test_destinations.py` holds it against
what servers say (`COMMAND`).
"""

import re
from collections.abc import Set as AbstractSet
from enum import Enum

from asynq_ttl.wire.cluster.slots import slot_of
from asynq_ttl.wire.commands import Command, WholeCommands, is_plain

try:
    from asynq_ttl.session.routing._destinations import quick_slot as _compiled_slot
except ImportError:  # there was no C compiler when this was installed
    _compiled_slot = None  # type: ignore[assignment] # a function, or none


class Role(Enum):
    """What a command is to a router."""

    KEY = "goes to the master that serves its first key, or to any where it has none"
    SPAN = "goes to all masters, one after the other; their replies become one"
    SCAN = "goes to one master after the other, as its cursor says"
    STATE = "says how a connection is: it is said again on each"
    RESET = "makes a connection as it was at its beginning"
    PIN = "makes one node's connection the client's own, for good"
    MULTI = "begins a transaction, which goes where its first command goes"
    END_MULTI = "ends a transaction"
    WATCH = "chooses the node of the next transaction"
    UNWATCH = "takes that back"
    CACHING = "is about the next command, and goes with it"
    ASKING = "is for the node of the next command, which is found here"
    QUIT = "hangs up"


_ROWS: tuple[tuple[Role, str], ...] = (
    (Role.SPAN, "FLUSHALL FLUSHDB DBSIZE KEYS WAIT WAITAOF"),
    (Role.SPAN, "SCRIPT|LOAD SCRIPT|EXISTS SCRIPT|FLUSH SCRIPT|KILL"),
    (Role.SPAN, "FUNCTION|LOAD FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|RESTORE FUNCTION|KILL"),
    (Role.SCAN, "SCAN"),
    (Role.STATE, "HELLO AUTH CLIENT|SETNAME CLIENT|SETINFO CLIENT|NO-EVICT CLIENT|NO-TOUCH CLIENT|TRACKING"),
    (Role.RESET, "RESET"),
    (Role.PIN, "SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR"),
    (Role.PIN, "SYNC PSYNC REPLCONF CLIENT|REPLY"),
    (Role.MULTI, "MULTI"),
    (Role.END_MULTI, "EXEC DISCARD"),
    (Role.WATCH, "WATCH"),
    (Role.UNWATCH, "UNWATCH"),
    (Role.CACHING, "CLIENT|CACHING"),
    (Role.ASKING, "ASKING"),
    (Role.QUIT, "QUIT"),
)
_ROLES = {name.encode(): role for role, names in _ROWS for name in names.split()}
_CONTAINERS = frozenset(name.partition(b"|")[0] for name in _ROLES if b"|" in name)

# With any argument these are errors, which a node has to tell: they begin and end nothing.
_ALONE = frozenset(b"MULTI EXEC DISCARD UNWATCH ASKING".split())
# Commands that may wait for what somebody else does.
_BLOCKING = re.compile(
    rb"\*\d+\r\n\$\d+\r\n(BLPOP|BRPOP|BRPOPLPUSH|BLMOVE|BLMPOP|BZMPOP|BZPOPMIN|BZPOPMAX|XREAD|XREADGROUP|WAIT|WAITAOF)\r\n",
    re.IGNORECASE,
)

# Commands without a key.
_KEYLESS = frozenset(
    b"ACL ASKING AUTH BGREWRITEAOF BGSAVE CLIENT CLUSTER COMMAND COMMANDLOG CONFIG DBSIZE DEBUG DISCARD ECHO EXEC "
    b"FAILOVER FLUSHALL FLUSHDB FUNCTION HELLO HOST: INFO KEYS LASTSAVE LATENCY LOLWUT MODULE MONITOR MULTI "
    b"PFSELFTEST PING POST PSUBSCRIBE PSYNC PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY READONLY READWRITE REPLCONF "
    b"REPLICAOF RESET ROLE SAVE SCAN SCRIPT SELECT SHUTDOWN SLAVEOF SLOWLOG SUBSCRIBE SWAPDB SYNC TIME UNSUBSCRIBE "
    b"UNWATCH WAIT WAITAOF".split()
)
# Where the key is not the first argument: its place, or that of the number of keys in front of it.
_SECOND = frozenset(b"BITOP MEMORY OBJECT PFDEBUG XGROUP XINFO".split())
_COUNTED = {
    **dict.fromkeys(b"EVAL EVALSHA EVAL_RO EVALSHA_RO FCALL FCALL_RO BLMPOP BZMPOP".split(), 2),
    **dict.fromkeys(b"LMPOP MSETEX SINTERCARD ZDIFF ZINTER ZINTERCARD ZMPOP ZUNION".split(), 1),
}
# Where a word stands in front of it, and where that word can be at the earliest.
_BEHIND = {b"XREAD": (b"STREAMS", 1), b"XREADGROUP": (b"STREAMS", 4), b"MIGRATE": (b"KEYS", 6)}
_SPECIAL = _KEYLESS | _SECOND | _COUNTED.keys() | _BEHIND.keys()


# What has a role of its own, or its key elsewhere.
UNUSUAL = frozenset(_SPECIAL | _ROLES.keys() | _CONTAINERS)
_EVALSHA = (b"evalsha", b"EVALSHA")
_FEW_KEYS = frozenset(b"%d" % number for number in range(1, 100))
# What the compiled part looks at. A longer name or command takes the slower way.
_MAX_NAME = 32
_MAX_ARGUMENTS = 99
_WHOLE = WholeCommands()


def _quick_slot(chunk: bytes, unusual: AbstractSet[bytes]) -> int:
    """Return the slot of a chunk that is one command which goes by its first key alone; -1 where more has to be seen.

    Args:
        chunk: the chunk; only a command in its one plain form is told.
        unusual: `UNUSUAL`.
    """
    commands = _WHOLE.decode(chunk)
    if commands is None or len(commands) != 1 or not is_plain(commands, chunk):
        return -1
    command = commands[0]
    if not (2 <= len(command) <= _MAX_ARGUMENTS and len(command[0]) <= _MAX_NAME):
        return -1
    if command[0] in _EVALSHA:
        return slot_of(command[3]) if len(command) > 3 and command[2] in _FEW_KEYS else -1
    return -1 if command[0].upper() in unusual else slot_of(command[1])


quick_slot = _compiled_slot if _compiled_slot is not None else _quick_slot


def name_of(command: Command) -> bytes:
    """Return the name of a command in upper case, with its subcommand where roles depend on it (`SCRIPT|LOAD`)."""
    name = command[0].upper()
    return name + b"|" + command[1].upper() if name in _CONTAINERS and len(command) > 1 else name


def role_of(command: Command) -> Role:
    """Return what a command is to a router."""
    name = name_of(command)
    return Role.KEY if len(command) > 1 and name in _ALONE else _ROLES.get(name, Role.KEY)


def may_block(data: bytes) -> bool:
    """Say whether a command, in its plain form, may wait for what somebody else does."""
    return _BLOCKING.match(data) is not None


def first_key(command: Command) -> bytes | None:
    """Return the first key of a command; None where it has none, or is none that Redis takes."""
    name = command[0].upper()
    if name not in _SPECIAL:
        return command[1] if len(command) > 1 else None
    place = _place(name, command)
    return command[place] if 0 < place < len(command) else None


def _place(name: bytes, command: Command) -> int:
    """Return where the key of a command is whose name is special; 0 for nowhere."""
    if name in _KEYLESS:
        return 0
    if name in _SECOND:
        return 2
    count = _COUNTED.get(name)
    if count is not None:
        return count + 1 if len(command) > count and command[count].isdigit() and int(command[count][:9]) else 0
    if name == b"MIGRATE" and len(command) > 3 and command[3]:
        return 3
    word, earliest = _BEHIND[name]
    return next((at + 1 for at in range(earliest, len(command)) if command[at].upper() == word), 0)
