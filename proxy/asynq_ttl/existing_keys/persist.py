"""Takes TTLs off again: by queue, state, type, or everything. The way back out.

Invariants:

* The only change is that a key no longer expires. Nothing is removed, and no index is touched.
* A key that is gone before its turn is not brought back; a task whose state has changed meanwhile is left alone.
"""

from collections.abc import Callable, Sequence

from asynq_ttl.existing_keys.changes import Change, Changer, change_of
from asynq_ttl.existing_keys.database import Database
from asynq_ttl.existing_keys.pages import Filter, task_pages
from asynq_ttl.policy.plan import Act, Plan

_PLAN = Plan(Act.PERSIST, "", "its TTL is taken off")


class Persist:
    """One run.

    Args:
        database: where.
        wanted: which tasks lose their TTL.
        changer: who makes the changes, or only tells them.
        advance: is told how many keys have been looked at.
    """

    def __init__(
        self, database: Database, wanted: Filter, changer: Changer, *, advance: Callable[[int], None] = lambda _: None
    ) -> None:
        self._database = database
        self._filter = wanted
        self._changer = changer
        self._advance = advance

    def run(self, position: Sequence[str | int] = ()) -> None:
        """Walk through the keyspace, from where an interrupted run stands."""
        start = int(position[1]) if position else 0
        for following, page in task_pages(self._database, "digest", start):
            by_queue: dict[str, list[Change]] = {}
            for task in page:
                if task.ttl_ms >= 0 and self._filter.queue(task.queue) and self._filter.matches(task):
                    change = change_of(task, _PLAN, index="", score="", timed="some")
                    by_queue.setdefault(task.queue, []).append(change)
            for changes in by_queue.values():
                self._changer.make(changes, ("scan", start))
            start = following
            self._advance(len(page))
