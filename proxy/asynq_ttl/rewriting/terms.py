"""What all tasks get that end alike: by one script, in one queue, of one type, kept by Asynq itself for one time. Pure.

`ending` decides it. What differs from one such task to the next is filled in here, and nothing else is worked out: so a
call is remembered by its terms (`remembered`), and gets from memory what it would get afresh.
"""

from typing import NamedTuple

from asynq_ttl.events import Decision

Alike = bytes
"""What calls of one script are told apart by."""


def alike(index: bytes, task_type: str, own_seconds: int, cap: bytes) -> Alike:
    """Return what calls of one script are told apart by.

    Args:
        index: the key of the index.
        task_type: the task's type.
        own_seconds: for how long Asynq itself keeps the task.
        cap: the number of entries that the script keeps, as it stands in the call; empty for none.
    """
    typed = task_type.encode("utf-8", "surrogateescape")
    return b"%d %d %d %b%b%b" % (own_seconds, len(index), len(typed), index, typed, cap)


class Terms(NamedTuple):
    """What tasks get that end alike. A tuple, since `_remembered.h` finds its items by where they stand.

    Attributes:
        prefix: what their keys start with; the task's ID follows.
        decision: what is told, but for the task and its trace; and whether it is done, be it for a share of the tasks.
        head: the wrapper's argument; where `age` is given, what stands before the score up to which the archive is
            trimmed.
        timed: whether it depends on the clock, so that Redis has to be asked for the time where that is not known.
        age: how long before the task's end that score is, in seconds; None where none is to be filled in.
        rest: then, what stands behind it.
        added: the entry's score is so many seconds after the task's end; None where `score` says it.
        score: then the entry's score; empty where the script's own is left.
        argv: other replacements by ARGV number.
    """

    prefix: bytes
    decision: Decision
    head: bytes
    timed: bool
    age: int | None = None
    rest: bytes = b""
    added: int | None = None
    score: bytes = b""
    argv: tuple[tuple[int, bytes], ...] = ()

    def fill(self, now: int, *, agrees: bool) -> tuple[bytes, bytes]:
        """Return the wrapper's argument, and the entry's score; empty where the script's own is left.

        Args:
            now: when the task ended, by the client.
            agrees: whether Redis's clock is known to say the same, or makes no difference (`timed`).
        """
        tail = self.head if self.age is None else b"%b%d%b" % (self.head, now - self.age, self.rest)
        if not agrees:
            tail = b"?%d %b" % (now, tail)
        return tail, self.score if self.added is None else b"%d" % (now + self.added)

    def told(self, task_id: str, traceparent: str, tracestate: str, size_bytes: int, *, enforced: bool) -> Decision:
        """Return what is told of a task; the arguments are as in `Decision`."""
        told = self.decision
        own = (*told[:5], enforced, task_id, *told[7:10], traceparent, tracestate, size_bytes, *told[13:])
        return tuple.__new__(Decision, own)  # as `Decision` does it, in a third of the time
