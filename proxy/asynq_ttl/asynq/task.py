"""A task as Redis has it, read whole: where it is, what its message says, and when it ended. Pure.

Owns what a row of `lua/shared/task.prologue` means. Knows nothing of how rows are asked for.
"""

from dataclasses import dataclass, replace
from typing import Any

from asynq_ttl.asynq.hold import Hold, hold_of
from asynq_ttl.asynq.keys import task_prefix, text_of
from asynq_ttl.asynq.message import MessageError, TaskRecord, decode_record

TERMINAL = (b"archived", b"completed")


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it was at one moment, in any state.

    Attributes:
        queue: the queue's name.
        id: its ID.
        state: as its hash says; empty where that says nothing.
        exists: whether there is a hash.
        record: its message, without the payload unless that was asked for; None where there is no message, or none that
            can be read.
        size: bytes of the message; 0 where there is none.
        ttl_ms: milliseconds its key has to live; -1 for ever, -2 where there is no key.
        score: its score as Redis writes it, in the index of its state, in its group or among the leases; None where it
            is in none of them.
        locked: whether it holds its uniqueness lock.
        result: its result, or only how many bytes that has.
        digest: tells this message from any other, where that was asked for.
        pending_since: when it became pending, in Unix seconds; 0 where it is not.
        wrong: keys of another type than Asynq has at their place, which were met when the task was read. What they
            would tell (an index, a lock) is not known.
        hold: what it goes back to when it is released; None where it is not held.
    """

    queue: str
    id: bytes
    state: str
    exists: bool = True
    record: TaskRecord | None = None
    size: int = 0
    ttl_ms: int = -1
    score: bytes | None = None
    locked: bool = False
    result: bytes | int = 0
    digest: bytes = b""
    pending_since: int = 0
    wrong: tuple[bytes, ...] = ()
    hold: Hold | None = None

    @property
    def type(self) -> str:
        """Its type; empty where the message cannot be read."""
        return self.record.type if self.record else ""

    @property
    def nowhere(self) -> bool:
        """Whether it certainly has no score."""
        return self.score is None and not self.wrong


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of an index: its score as Redis writes it, and the task it names, in whatever state that is."""

    score: bytes
    task: Task


def seconds_of(score: bytes) -> int:
    """Return a score in whole seconds, and no further from 0 than 2**53, which is beyond every clock."""
    return int(min(max(float(score), -(2.0**53)), 2.0**53))


def task_of_row(queue: str, task_id: bytes, row: list[Any]) -> Task:
    """Return the task that a row of `lua/shared/task.prologue` tells of.

    Args:
        queue: the queue's name.
        task_id: the task's ID.
        row: nothing where there is no key; one element where the key is no hash; else eleven, see there.
    """
    if not row:
        return Task(queue, task_id, "", exists=False, ttl_ms=-2)
    if len(row) == 1:
        # Something else is at its key.
        return Task(queue, task_id, "", exists=False, wrong=(task_prefix(queue) + task_id,))
    state, msg, size, left, score, locked, result, digest, pending, wrong, hold = row
    record = None if msg is None else record_of(msg)
    since = int(pending[:-9]) if pending[:-9].isdigit() else 0
    return Task(
        queue,
        task_id,
        text_of(state),
        record=record,
        size=size,
        ttl_ms=left,
        score=score,
        locked=locked == 1,
        result=result,
        digest=digest,
        pending_since=since,
        wrong=tuple(wrong),
        hold=hold_of(hold, score) if state in TERMINAL else None,
    )


def record_of(message: bytes) -> TaskRecord | None:
    """Return what an encoded message says; None where it cannot be read."""
    try:
        return decode_record(message)
    except MessageError:
        return None


def released(task: Task, now: int) -> Task:
    """Return a task as it is once nobody holds it any more; one that is not held as it is.

    Args:
        task: the task.
        now: Redis's time in Unix seconds.
    """
    hold = task.hold
    if hold is None:
        return task
    left = -1 if hold.expires_at_ms is None else max(hold.expires_at_ms - now * 1000, 0)
    return replace(task, score=hold.score, ttl_ms=left, hold=None)


def ended_at(task: Task) -> int:
    """Return when a terminal task died or completed, in Unix seconds; 0 where nobody knows.

    An archived task has the time of its death as score; where it is in no index, its message says when it last failed.
    A completed task's message says when it completed; where it does not, that is its score less its Retention. A score
    of 0, or less, is no time: nobody knows. Of a held task the score it had before counts.

    Args:
        task: the task, whose state is `archived` or `completed`.
    """
    record = task.record
    score = 0 if task.score is None else seconds_of(task.hold.score if task.hold else task.score)
    if task.state == "archived":
        ended = record.last_failed_at if record is not None and task.score is None else score
    elif record is not None:
        ended = record.completed_at or score - record.retention
    else:
        ended = score
    return max(ended, 0)
