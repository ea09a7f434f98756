"""What a queue has of a task, for tests of what is told about it."""

from asynq_ttl.asynq.task import Task
from asynq_ttl.existing_keys.why.find import ListPlace, UniquenessLock, Whereabouts

EMPTY = ListPlace(0, 0, 0)


def where(
    task: Task,
    *also: str,
    pending: ListPlace = EMPTY,
    active: ListPlace = EMPTY,
    lock: UniquenessLock | None = None,
    paused: bool = False,
    wrong: tuple[str, ...] = (),
    database: int = 0,
) -> Whereabouts:
    """Return where a task is: in the index of its state, if it has a score.

    Args:
        task: the task.
        also: further sorted sets in which its ID stands.
        pending, active, lock, paused, wrong, database: as `Whereabouts` has them.
    """
    home = {"active": "lease"}.get(task.state, task.state)
    scores = dict.fromkeys(also, 1.0)
    if task.score is not None:
        scores[home] = float(task.score)
    return Whereabouts(database, task.queue, task, scores, {"pending": pending, "active": active}, lock, paused, wrong)
