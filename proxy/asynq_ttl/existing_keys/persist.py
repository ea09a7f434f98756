"""Takes TTLs off task keys: by queue, state, type, or everywhere. It undoes what the sidecar and `backfill` do.

Invariants:

* All that changes is that a key no longer expires. Nothing is removed, and no index is written to.
* A key that expires before its turn is not restored; a task whose state has changed meanwhile is not touched.
"""

from collections.abc import Callable, Sequence

from asynq_ttl.existing_keys.changes import Changer, change_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import TaskFilter, task_pages
from asynq_ttl.policy.plan import Act, Plan

_PLAN = Plan(Act.PERSIST, "", "its TTL is taken off")


class Persist:
    """One run.

    Args:
        database: where.
        wanted: which tasks lose their TTL.
        changer: makes the changes, or only reports them.
        advance: is called with the number of tasks of each page.
    """

    def __init__(
        self,
        database: Database,
        wanted: TaskFilter,
        changer: Changer,
        *,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._wanted = wanted
        self._changer = changer
        self._advance = advance

    def run(self, position: Sequence[str | int] = ()) -> None:
        """Walk through the keyspace.

        Args:
            position: what `Changer.resume` returned; nothing for a new run.
        """
        start = position[1] if position else 0
        for following, page in task_pages(self._database, "digest", start):
            timed = [task for task in page if task.ttl_ms >= 0 and self._wanted.matches_queue(task.queue)]
            for task in timed:
                if self._wanted.types and task.record is None:
                    self._database.left_out.add_unreadable()
            wanted = filter(self._wanted.matches, timed)
            changes = [change_of(task, _PLAN, index="", score="", timed="some") for task in wanted]
            self._changer.make(changes, ("scan", start))
            start = following
            self._advance(len(page))
