"""The call of a learnt script, and the answer to it. Pure; decides nothing.

Invariant: what a `Call` hands out is there and has been checked, so that nothing a wrapper makes of it can raise inside
Redis. What has not the form that the script's text asks for raises `NotUnderstood`.
"""

import re
from typing import NamedTuple

from asynq_ttl.asynq.keys import task_prefix
from asynq_ttl.events import Action, Decision, Enqueue, FailOpen
from asynq_ttl.policy.rules import OWN_ARCHIVE_SECONDS, Keep
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.terms import Alike, Terms
from asynq_ttl.wire.commands import Command

MAX_DIGITS = 15
"""Lua carries so many digits exactly, and no clock has as many."""
# What Python, Lua and Redis read alike.
_INTEGER = re.compile(rb"-?[0-9]{1,%d}" % MAX_DIGITS)

ACTIONS = {
    Keep.TTL: Action.TTL,
    Keep.OWN: Action.KEEP,
    Keep.FOREVER: Action.NONE,
    Keep.DELETE: Action.DELETE,
}
"""What happens to a task's key, by how its rule keeps it."""


class NotUnderstood(Exception):  # noqa: N818 - nobody's error: the command goes to Redis as it came
    """A command that cannot be rewritten; `reason` says why."""

    def __init__(self, reason: FailOpen, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Rewrite(NamedTuple):
    """What to do with one command.

    Attributes:
        enforced: send the wrapper instead of the script.
        tail: the wrapper's own argument, if it takes one.
        argv: replacements by ARGV number.
        decision: what to tell about it; None for polls.
        enqueue: then, instead, what may be told once the reply has come.
        terms: those that all such calls go by, with what they are told apart by; None where it takes more than that.
    """

    enforced: bool
    tail: bytes | None = None
    argv: tuple[tuple[int, bytes], ...] = ()
    decision: Decision | None = None
    enqueue: Enqueue | None = None
    terms: tuple[Alike, Terms] | None = None


POLL = Rewrite(enforced=True)
"""The wrapper instead of the script, and nothing else: what is done often, and is told to nobody."""


class Call:
    """A command seen as a call of a script: KEYS and ARGV by their numbers in Lua.

    Args:
        script: the script that is called.
        command: the whole command.
        keys: its number of KEYS; they start at the command's fourth element.

    Raises:
        NotUnderstood: a KEYS or ARGV that plays a part in the script is not there.
    """

    __slots__ = ("_command", "_keys", "script", "shape")

    def __init__(self, script: Script, command: Command, keys: int) -> None:
        args = len(command) - 3 - keys
        if keys < script.least_keys or args < script.least_args:
            raise NotUnderstood(FailOpen.ARGUMENTS, f"{keys} KEYS and {args} ARGV")
        self.script = script
        self.shape = script.shape
        self._command = command
        self._keys = keys

    def key(self, number: int) -> bytes:
        """Return KEYS[number]."""
        return self._command[2 + number]

    def arg(self, number: int) -> bytes:
        """Return ARGV[number]."""
        return self._command[2 + self._keys + number]

    def has_key(self, start: bytes) -> bool:
        """Say whether one of KEYS starts so."""
        return any(key.startswith(start) for key in self._command[3 : 3 + self._keys])

    def number(self, number: int) -> int:
        """Return ARGV[number] as an integer.

        Raises:
            NotUnderstood: it is not written in the one way that Python, Lua and Redis read alike.
        """
        text = self.arg(number)
        plain = text.isdigit() and len(text) <= MAX_DIGITS  # nearly always
        if not plain and not _INTEGER.fullmatch(text):
            raise NotUnderstood(FailOpen.ARGUMENTS, f"ARGV[{number}] is no integer")
        return int(text)

    def task_id(self, prefix: bytes) -> bytes:
        """Return the task ID.

        Args:
            prefix: what the keys of the queue's tasks start with.

        Raises:
            NotUnderstood: the task key is not the prefix and the ID, so it may be another task's.
        """
        task_id = self.arg(self.shape.id_arg)
        if self.key(self.shape.task_key) != prefix + task_id:
            raise NotUnderstood(FailOpen.ARGUMENTS, f"KEYS[{self.shape.task_key}] is not the task's key")
        return task_id

    def check_prefix(self, queue: str) -> None:
        """Check that the task keys of a bulk script are those of a queue, and that a bound of it is a number.

        Raises:
            NotUnderstood: they are another queue's, or it is no integer.
        """
        if self.shape.limit_arg:
            self.number(self.shape.limit_arg)
        if self.arg(self.shape.prefix_arg) != task_prefix(queue):
            raise NotUnderstood(FailOpen.ARGUMENTS, f"ARGV[{self.shape.prefix_arg}] is not the task key prefix")

    def archive_times(self) -> tuple[int, int, int]:
        """Return when the task died, and the script's own retention in seconds and number of entries kept.

        Without a trim by age the retention is Asynq's. Without a trim by number that is -1, for any number, and so it
        is where the ARGV is below 1, by which scripts say that there is none.

        Raises:
            NotUnderstood: one of them is no integer.
        """
        shape = self.shape
        now = self.number(shape.time_arg)
        own_seconds = now - self.number(shape.cutoff_arg) if shape.cutoff_arg else OWN_ARCHIVE_SECONDS
        cap = self.number(shape.cap_arg) if shape.cap_arg else 0
        return now, own_seconds, max(cap + shape.cap_offset, 0) if cap > 0 else -1
