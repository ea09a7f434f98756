"""Which commands wrappers and the sweeper need, and whether the user may run them. Changes nothing.

Each command is tried on a key that does not exist, with arguments with which it does nothing to such a key.
"""

from collections.abc import Iterator

from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.findings import Finding, Severity

# What wrappers add to Asynq's scripts: the users that clients log in as need it. docs/failure-modes.md lists the same.
# Each command with the arguments that follow the key.
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
# What the sweeper runs: the user in `--upstream` needs it.
SWEEPER = {"EXISTS": ""} | {
    name: arguments for name, arguments in WRAPPERS.items() if name not in ("LINDEX", "PEXPIRE")
}
# What the sweeper does to its lock.
LOCK = {"GET": "", "SET": "x XX", "DEL": ""}


def tries(commands: dict[str, str]) -> tuple[str, ...]:
    """Return commands, each with its arguments, as `Database.denied` takes them."""
    return tuple(f"{name} {arguments}".strip() for name, arguments in commands.items())


def check(database: Database, queue: str) -> Iterator[Finding]:
    """Say whether the user may run what wrappers and the sweeper run, and may take the sweeper's lock.

    Args:
        database: where.
        queue: the name of the queue on whose keys the commands are tried.
    """
    for code, whose, commands, more in (
        ("rights-wrappers", "what wrappers add", WRAPPERS, "the users that clients log in as need the same"),
        ("rights-sweeper", "what the sweeper does", SWEEPER, "see docs/failure-modes.md for the whole list"),
    ):
        denied = database.denied(queue, tries(commands))
        if denied:
            names = ", ".join(denied)
            why = "tasks move without their TTL" if "wrappers" in code else "due tasks stay until their keys expire"
            wanted = " ".join(f"+{name.lower()}" for name in denied)
            advice = f"give it {wanted} ~asynq:*; {more}"
            yield Finding(code, Severity.DANGER, f"the user may not run {names}", why, advice)
        else:
            yield Finding(code, Severity.FINE, f"the user may do {whose}", "", "")
    denied = database.denied_on(b"asynq-ttl:probe", tries(LOCK))
    if denied:
        what = f"the user may not run {', '.join(denied)} on asynq-ttl:*"
        yield Finding(
            "rights-lock",
            Severity.WARNING,
            what,
            "the sweeper cannot take its lock, so it never sweeps",
            "give it ~asynq-ttl:*",
        )
    else:
        yield Finding("rights-lock", Severity.FINE, "the user may take the sweeper's lock", "", "")
