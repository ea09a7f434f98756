"""Which commands the wrappers, the sweeper and the tools need, and how each is tried without changing anything. Pure.

A command is tried on a key that is not there, with arguments with which it does nothing to such a key.
"""

# What wrappers add to Asynq's scripts, for the users of clients; docs/failure-modes.md lists the same.
WRAPPERS = {
    "DEL": "",
    "GET": "",
    "HEXISTS": "msg",
    "HGET": "msg",
    "HMGET": "msg",
    "LINDEX": "0",
    "LRANGE": "0 0",
    "LREM": "1 x",
    "PERSIST": "",
    "PEXPIRE": "1000",
    "PTTL": "",
    "TIME": "",
    "ZCARD": "",
    "ZRANGE": "0 0",
    "ZRANGEBYSCORE": "0 0",
    "ZREM": "x",
    "ZSCORE": "x",
}
# What the sweeper runs, for the user in `--upstream`.
SWEEPER = {"EXISTS": ""} | {
    name: arguments for name, arguments in WRAPPERS.items() if name not in ("LINDEX", "PEXPIRE")
}
# What the sweeper does to its lock.
LOCK = {"GET": "", "SET": "x XX", "DEL": ""}


def tries(commands: dict[str, str]) -> tuple[str, ...]:
    """Return commands as `Database.denied` takes them."""
    return tuple(f"{name} {arguments}".strip() for name, arguments in commands.items())
