"""Takes TTLs off task keys: by queue, state, type, or everywhere. It undoes what the sidecar and `backfill` do.

Histories of scheduler entries lose theirs where no queue or type is asked for.

Invariants:

* All that changes is that a key no longer expires. Nothing is removed, and no index is written to.
* A key that expires before its turn is not restored; a task whose state has changed meanwhile is not touched.
"""

from collections.abc import Callable, Sequence

from asynq_ttl.existing_keys.changes import Changer, change_of
from asynq_ttl.existing_keys.database import Cursor, Database
from asynq_ttl.existing_keys.pages import TaskFilter, task_pages
from asynq_ttl.existing_keys.scheduler_histories import begun_at, walk_histories
from asynq_ttl.policy.plan import Act, Plan
from asynq_ttl.policy.rules import SCHEDULER_HISTORY

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
        in_histories = position[:1] == (SCHEDULER_HISTORY,)
        if self._wanted.matches_tasks and not in_histories:
            self._walk_tasks(position[1] if position else 0)
        if self._wanted.matches_histories:
            plan = lambda history: _PLAN if history.ttl_ms >= 0 else None  # noqa: E731 - one line
            walk_histories(self._database, self._changer, plan, begun_at(position), self._advance)

    def _walk_tasks(self, start: Cursor) -> None:
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
