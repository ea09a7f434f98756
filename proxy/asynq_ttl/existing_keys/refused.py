"""What a server refuses to a user of the commands that were tried on a key that does not exist. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.exceptions import NoPermissionError, ResponseError

from asynq_ttl.asynq.keys import queue_prefix
from asynq_ttl.existing_keys.needed_rights import rules_of
from asynq_ttl.net.server_version import is_unknown


@dataclass(frozen=True, slots=True)
class Refused:
    """What cannot be run; false where all can.

    Attributes:
        denied: the commands that the user has no right to.
        unknown: those that the server does not know.
        keys: whether the user has no right to the key.
        database: whether the user has no right to the database.
    """

    denied: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    keys: bool = False
    database: bool = False

    def __bool__(self) -> bool:
        return bool(self.denied or self.unknown or self.keys or self.database)

    def __str__(self) -> str:
        """Say in words what cannot be run."""
        parts = []
        if self.denied:
            parts.append(f"the user in the URL may not run {_names(self.denied)}")
        if self.unknown:
            parts.append(f"the server does not know {_names(self.unknown)}")
        if self.keys:
            parts.append("the user in the URL has no right to the keys")
        if self.database:
            parts.append("the user in the URL has no right to the database")
        return ", and ".join(parts)

    def advice(self, keys: str) -> str:
        """Say what to do about it.

        Args:
            keys: the pattern of the keys that the user needs.
        """
        parts = []
        if self.denied or self.keys or self.database:
            rules = rules_of(self.denied)
            parts.append("give it " + f"{rules} ~{keys}".strip() + (" and the database" if self.database else ""))
        if self.unknown:
            parts.append("take the rename-command of it away, or use Redis 6.2 or later")
        return "; ".join(parts)


def refused_of(answers: Iterable[tuple[str, object]]) -> Refused:
    """Return what was refused.

    Args:
        answers: the name of each command, and what came of it: a reply or an error.
    """
    denied, unknown = [], []
    keys = database = False
    for name, answer in answers:
        if isinstance(answer, NoPermissionError):
            said = str(answer)
            if " to run " in said:
                denied.append(name)
            else:
                database = database or "database" in said
                keys = keys or "database" not in said
        elif isinstance(answer, ResponseError) and is_unknown(answer):
            unknown.append(name)
    return Refused(tuple(denied), tuple(unknown), keys, database)


def probe_key(queues: Sequence[str] | None) -> bytes:
    """Return a key that does not exist, of the first of some queues, if one is known: a user may have only these."""
    return queue_prefix(queues[0] if queues else "default") + b"asynq-ttl-probe"


def _names(commands: tuple[str, ...]) -> str:
    return ", ".join(command.replace("|", " ") for command in commands)
