"""Asks a database about one task, and says what could not be asked: an answer in any case.

Invariant: nothing is raised for what Redis, the network or the database is like; it is a sentence of the answer.
"""

from contextlib import closing
from dataclasses import dataclass

from asynq_ttl.asynq.keys import AMBIGUOUS, QUEUES, ambiguous
from asynq_ttl.existing_keys.clients import DatabaseError, explained
from asynq_ttl.existing_keys.cluster.database import database_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.why.find import Whereabouts, find
from asynq_ttl.existing_keys.why.words import shown
from asynq_ttl.net.address import Upstream


@dataclass(frozen=True, slots=True)
class Look:
    """What a database says of a task.

    Attributes:
        found: what its queues have of it.
        now: its time in Unix seconds; 0 where it could not be asked.
        notes: what was looked at, and what could not be.
        whole: whether all was looked at.
        queues: those that were certainly looked at, each with the number of the database; none where not all was.
    """

    found: tuple[Whereabouts, ...]
    now: int
    notes: tuple[str, ...]
    whole: bool
    queues: frozenset[tuple[int, str]] = frozenset()


def look(upstream: Upstream, queue: str, task_id: bytes) -> Look:
    """Return what a database says of a task.

    Args:
        upstream: the server and the number of the database.
        queue: the queue; empty for all that there are.
        task_id: the task's ID.
    """
    if ambiguous(queue):
        why = f"a name with {AMBIGUOUS} can be read as another queue's"
        return not_looked(f"Queue {shown(queue)} was not looked at: {why}.")
    try:
        with explained(upstream), closing(database_of(upstream)) as database:
            database.begin()
            queues = [queue] if queue else _queues(database)
            found = tuple(find(database, queues, task_id))
            many = f"queue {shown(queue)}" if queue else f"{len(queues):,} queues"
            left_out = [f"{note[0].upper()}{note[1:].rstrip('.')}." for note in database.left_out.notes()]
            notes = f"Redis at {upstream} was asked: {many}.", *left_out
            certain = frozenset((upstream.database, name) for name in queues if not left_out)
            return Look(found, database.now(), notes, whole=not left_out, queues=certain)
    except DatabaseError as error:
        return not_looked(f"Redis could not be asked: {str(error).rstrip('.')}.")


def not_looked(note: str) -> Look:
    """Return the answer where a database could not be asked; the note says why."""
    return Look((), 0, (note,), whole=False)


def _queues(database: Database) -> list[str]:
    """Return the names of the queues of a database; none where it has none."""
    try:
        return database.open()
    except DatabaseError:
        if database.left_out or database.ask(QUEUES, "SMEMBERS"):
            raise
        return []
