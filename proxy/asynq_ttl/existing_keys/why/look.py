"""Asks a database about one task, and says what could not be asked: an answer in any case.

Invariant: nothing is raised for what Redis, the network or the database is like; it is a sentence of the answer.
"""

from contextlib import closing
from dataclasses import dataclass, field

from asynq_ttl.asynq.keys import AMBIGUOUS, QUEUES, ambiguous
from asynq_ttl.existing_keys.database import Database, DatabaseError, explained
from asynq_ttl.existing_keys.why.find import Whereabouts, find
from asynq_ttl.existing_keys.why.words import shown
from asynq_ttl.net.address import Upstream


@dataclass(slots=True)
class Look:
    """What a database says of a task.

    Attributes:
        found: what its queues have of it.
        now: its time in Unix seconds; 0 where it could not be asked.
        notes: what was looked at, and what could not be.
        whole: whether all was looked at.
    """

    found: list[Whereabouts] = field(default_factory=list)
    now: int = 0
    notes: list[str] = field(default_factory=list)
    whole: bool = True


def look(upstream: Upstream, queue: str, task_id: bytes) -> Look:
    """Return what a database says of a task.

    Args:
        upstream: the server and the number of the database.
        queue: the queue; empty for all that there are.
        task_id: the task's ID.
    """
    looked = Look()
    if ambiguous(queue):
        why = f"a name with {AMBIGUOUS} can be read as another queue's"
        return Look(notes=[f"Queue {shown(queue)} was not looked at: {why}."], whole=False)
    try:
        with explained(upstream), closing(Database(upstream)) as database:
            looked.now = database.now()
            queues = [queue] if queue else _queues(database)
            looked.found = list(find(database, queues, task_id))
            many = f"queue {shown(queue)}" if queue else f"{len(queues):,} queues"
            looked.notes.append(f"Redis at {upstream} was asked: {many}.")
            left_out = database.left_out.notes()
            looked.notes += [f"{note[0].upper()}{note[1:]}." for note in left_out]
            looked.whole = not left_out
    except DatabaseError as error:
        looked.whole = False
        looked.notes.append(f"Redis could not be asked: {error}.")
    return looked


def _queues(database: Database) -> list[str]:
    """Return the names of the queues of a database; none where it has none."""
    try:
        return database.open()
    except DatabaseError:
        if database.client.exists(QUEUES) or database.left_out:
            raise
        return []
