"""Which commands the sidecar, its wrappers, its sweeper and the tools run: the one list of the rights that users need.

What a Lua text runs is read from the text; what our modules ask by themselves is written down here. `doctor` and the
tools try these lists, and the documentation is tested against them.

Invariants:

* A text that runs a command whose name cannot be read from it is a `ValueError`, so none is forgotten.
* Trying a command changes nothing: one that could is tried on a key that does not exist, with arguments that leave it
  so.
"""

import re
from dataclasses import dataclass

from asynq_ttl.lua.loader import load, names

ASYNQ_KEYS, OWN_KEYS = "asynq:*", "asynq-ttl:*"

_KEY = "KEY"
_NO_SHA = "0" * 40
# Each command with the arguments that it is tried with.
_TRIES = {
    "CLIENT|LIST": "ID 0",
    "CLIENT|SETNAME": "asynq-ttl-tools",
    "CLUSTER|INFO": "",
    "CLUSTER|NODES": "",
    "CLUSTER|SLOTS": "",
    "CONFIG|GET": "min-replicas-to-write",
    "DBSIZE": "",
    "DEL": _KEY,
    # The text `return`, and no keys.
    "EVAL": "return 0",
    "EVALSHA": f"{_NO_SHA} 0",
    "EXISTS": _KEY,
    "GET": _KEY,
    "HDEL": f"{_KEY} asynq_ttl_hold",
    "HEXISTS": f"{_KEY} msg",
    "HGET": f"{_KEY} msg",
    "HGETALL": _KEY,
    "HMGET": f"{_KEY} state",
    # A value is missing, which is noticed after the right.
    "HSET": f"{_KEY} asynq_ttl_hold x asynq_ttl_hold",
    "HSTRLEN": f"{_KEY} msg",
    "INFO": "server",
    "LINDEX": f"{_KEY} 0",
    "LLEN": _KEY,
    # A value is missing, which is noticed after the right.
    "LPUSH": _KEY,
    "LRANGE": f"{_KEY} 0 0",
    "LREM": f"{_KEY} 1 x",
    "MEMORY|USAGE": _KEY,
    "PERSIST": _KEY,
    "PEXPIRE": f"{_KEY} 1000",
    "PEXPIREAT": f"{_KEY} 1",
    "PING": "",
    "PTTL": _KEY,
    "ROLE": "",
    "SCAN": "0 COUNT 1",
    "SCRIPT|LOAD": "return",
    "SELECT": "DATABASE",
    "SET": f"{_KEY} x XX",
    "SMEMBERS": "asynq:queues",
    "TIME": "",
    "ZADD": f"{_KEY} XX 1 x",
    "TYPE": f"{_KEY}",
    "ZCARD": _KEY,
    "ZCOUNT": f"{_KEY} 0 0",
    "ZRANGE": f"{_KEY} 0 0",
    "ZRANGEBYSCORE": f"{_KEY} 0 0",
    "ZRANK": f"{_KEY} x",
    "ZREM": f"{_KEY} x",
    "ZREVRANGE": f"{_KEY} 0 0",
    "ZSCORE": f"{_KEY} x",
}
# `ask` is a function of our own around both, which gets the same arguments.
_CALL = re.compile(r"(?:redis\.p?call\b|\bask(?=\())(?:\(\s*([^\s,)]+))?")
_LITERAL = re.compile(r"'([A-Z]+)'")
# What is put in place of a name when a wrapper is made; see `script_shape`.
_FILLED_IN: dict[str, tuple[str, ...]] = {"source_command": ("LRANGE", "ZRANGE"), "...": (), "command": ()}


def commands_of(text: str) -> set[str]:
    """Return the names of the commands that a Lua text runs.

    Raises:
        ValueError: the name of one cannot be read from the text.
    """
    found: set[str] = set()
    for name in (match[1] or "" for match in _CALL.finditer(text)):
        literal = _LITERAL.fullmatch(name)
        if literal is None and name not in _FILLED_IN:
            raise ValueError(f"the Lua text runs a command whose name is no literal: {name or 'redis.call itself'}")
        found.update(_FILLED_IN[name] if literal is None else (literal[1],))
    return found


def attempt(command: str, key: bytes, database: int) -> list[bytes | str]:
    """Return a command with arguments with which it changes nothing where the key does not exist.

    Args:
        command: its name as in an ACL rule, in upper case: `GET`, `SCRIPT|LOAD`.
        key: the key that does not exist.
        database: the number of a database.
    """
    places: dict[str, bytes | str] = {_KEY: key, "DATABASE": str(database)}
    return [*command.split("|"), *(places.get(word, word) for word in _TRIES[command].split())]


@dataclass(frozen=True, slots=True)
class Need:
    """What somebody has to be allowed to.

    Attributes:
        commands: the names of the commands, sorted, as `attempt` takes them.
        keys: the pattern of the keys that they are run on.
    """

    commands: tuple[str, ...]
    keys: str = ASYNQ_KEYS

    @property
    def rules(self) -> str:
        """The rules of an ACL that allow the commands."""
        return rules_of(self.commands)


def rules_of(commands: tuple[str, ...] | list[str]) -> str:
    """Return the rules of an ACL that allow some commands."""
    return " ".join(f"+{command.lower()}" for command in commands)


def _need(*asked: str, texts: tuple[str, ...] = (), keys: str = ASYNQ_KEYS) -> Need:
    """Return the need of somebody who asks some commands, and runs some Lua texts."""
    read = (commands_of(load(name)) for name in texts)
    return Need(tuple(sorted({*asked}.union(*read))), keys)


def _all_but(folder: str, *others: str) -> tuple[str, ...]:
    """Return the names of all Lua texts of a folder, but for some."""
    return tuple(name for name in names(folder) if name not in others)


_RUNS_SCRIPTS = ("EVAL", "EVALSHA", "SCRIPT|LOAD")
_READING_TASKS = ("shared/task.prologue", "shared/read_tasks")
_HOLD = "shared/hold.prologue"
_OF_LOCK = ("sweep/take_lock", "sweep/release_lock")
_OF_SINK = ("sweep/remove_due", "sweep/over_cap")
_OF_CHANGES = ("existing_keys/change_tasks",)
_OF_HOLDS = ("existing_keys/hold_tasks", "existing_keys/release_tasks")

WRAPPERS = _need(texts=("shared/states.prologue", _HOLD, "shared/hold_on.prologue", *names("wrappers")))
"""What wrappers add to Asynq's scripts: the users that clients log in as need it."""

CONTROL = _need("PING", "SCRIPT|LOAD", "SELECT")
"""What the sidecar needs to load wrappers: for the user in `--upstream`, as all that follows down to the spans."""

BEHIND_SENTINELS = _need("ROLE")
"""What the sidecar asks the master that Sentinels name."""

IN_CLUSTER = _need("CLUSTER|NODES", "CLUSTER|SLOTS")
"""What the sidecar and the tools ask the nodes of a cluster."""

SWEEPER = _need(
    *_RUNS_SCRIPTS,
    "SMEMBERS",
    "TIME",
    texts=(_HOLD, *_all_but("sweep", *_OF_LOCK, *_OF_SINK)),
)
"""What the sweeper runs on Asynq's keys."""

LOCK = _need(*_RUNS_SCRIPTS[:1], texts=_OF_LOCK, keys=OWN_KEYS)
"""What the sweeper does to its lock."""

SINK = _need(*_RUNS_SCRIPTS[:1], texts=(_HOLD, *_READING_TASKS, *_OF_SINK))
"""What the sweeper runs besides, where due tasks are handed over to a sink."""

SPANS = _need("EVAL", "HMGET", "LRANGE", texts=("wrappers/clock.prologue", "telemetry/archived_in_bulk"))
"""What is needed to tell of bulk operations which tasks they moved, and how many got what."""

READING = _need(
    *_RUNS_SCRIPTS,
    *("LLEN", "PING", "PTTL", "SCAN", "SELECT", "SMEMBERS", "TIME", "TYPE", "ZCARD"),
    texts=(*_READING_TASKS, *_all_but("existing_keys", *_OF_CHANGES, *_OF_HOLDS)),
)
"""What each of the tools for existing keys needs."""

CHANGING = _need(texts=_OF_CHANGES)
"""What those of them need besides that change tasks."""

HOLDING = _need(texts=(_HOLD, *_OF_HOLDS))
"""What `hold` and `release` need besides."""

SPARED = {
    "CLIENT|SETNAME": "connections have no names, so `doctor` cannot tell those of a sidecar",
    "INFO": "a cluster is not noticed, and `doctor` does not look at version, memory, replication and connections",
    "CLUSTER|INFO": "where `INFO` is missing too, the tools take one node of a cluster for a whole database",
    "CLIENT|LIST": "`doctor` does not look at who is connected",
    "CONFIG|GET": "`doctor` does not look at `min-replicas-to-write` (Sentinels) and `tls-cluster` (cluster)",
    "DBSIZE": "progress bars of the tools do not know the end",
    "MEMORY|USAGE": "`audit` counts the bytes of tasks alone, not what Redis needs besides",
}
"""What is done without where it is missing, and what is lost then."""
