"""Commands that bring tasks back to life or clear an index: they must meet neither a TTL nor a ghost. Pure.

Their wrappers heal and take no argument. What an inspector runs or deletes is told about; a poll and a janitor are too
frequent.
"""

from asynq_ttl.asynq.keys import (
    ACTIVE,
    COMPLETED,
    PENDING,
    queue_of,
    queue_of_index,
    queue_of_task,
    task_prefix,
    text_of,
)
from asynq_ttl.events import Action, Decision, FailOpen
from asynq_ttl.policy.reach import Reach
from asynq_ttl.rewriting.call import POLL, Call, NotUnderstood, Rewrite

# Tells the janitor's wrapper to leave tasks with a TTL to the sweeper, which hands them to a sink.
LEAVE_DUE = b"asynq-ttl-leave-due"

# Lists that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000


class Reviving:
    """Decides about tasks that live again, and about what goes through a whole index.

    Args:
        reach: the queues that the policy in force reaches.
    """

    def __init__(self, reach: Reach) -> None:
        # By the key of a pending list, whether polls of it are rewritten; only lists that were polled.
        self._healed_lists: dict[bytes, bool] = {}
        self._reach = reach

    def run_one(self, call: Call) -> Rewrite | None:
        """Decide about an inspector's running of one task again."""
        key = call.key(call.shape.task_key)
        queue = queue_of_task(key)
        if queue is None or not self._reach.concerns(queue):
            return None
        return self._run(call, queue, text_of(key[len(task_prefix(queue)) :]))

    def run_all(self, call: Call) -> Rewrite | None:
        """Decide about an inspector's running of all tasks of an index again."""
        queue = queue_of_index(call.key(call.shape.source_key))
        if queue is None or not self._reach.concerns(queue):
            return None
        call.check_prefix(queue)
        return self._run(call, queue, "")

    def _run(self, call: Call, queue: str, task_id: str) -> Rewrite:
        self._reach.note_enforced(queue)
        decision = Decision(
            operation="run",
            script=f"asynq.{call.script.kind.value}",
            queue=queue,
            state="pending",
            action=Action.PERSIST,
            enforced=self._reach.heals(queue),
            task_id=task_id,
        )
        return Rewrite(decision.enforced, decision=decision)

    def dequeue(self, call: Call) -> Rewrite | None:
        """Decide about a worker's poll: once for each pending list."""
        key = call.key(call.shape.source_key)
        healed = self._healed_lists.get(key)
        if healed is None:
            healed = self._polls_healed(call, key)
            if len(self._healed_lists) < _MEMORY_LIMIT:
                self._healed_lists[key] = healed
        return POLL if healed else None

    def _polls_healed(self, call: Call, pending: bytes) -> bool:
        """Decide whether polls of a pending list are rewritten: it is healed, and tasks move to the active list."""
        queue = queue_of(pending, PENDING)
        if queue is None or not self._reach.heals(queue):
            return False
        self._reach.note_enforced(queue)
        return call.key(call.shape.active_key).endswith(ACTIVE)

    def janitor(self, call: Call) -> Rewrite | None:
        """Decide about a server's deletion of completed tasks whose Retention is over."""
        queue = queue_of(call.key(call.shape.index_key), COMPLETED)
        if queue is None or not self._reach.heals(queue):
            return None
        self._reach.note_enforced(queue)
        call.check_prefix(queue)
        if call.number(call.shape.batch_arg) < 1:
            raise NotUnderstood(FailOpen.ARGUMENTS, "a batch without an end")
        return Rewrite(enforced=True, tail=LEAVE_DUE) if self._reach.hands_over else POLL

    def delete_all(self, call: Call) -> Rewrite | None:
        """Decide about an inspector's deletion of all tasks of an index."""
        queue = queue_of_index(call.key(call.shape.source_key))
        if queue is None or not self._reach.concerns(queue):
            return None
        self._reach.note_enforced(queue)
        call.check_prefix(queue)
        decision = Decision(
            operation="delete",
            script=f"asynq.{call.script.kind.value}",
            queue=queue,
            state="deleted",
            action=Action.DELETE,
            enforced=self._reach.heals(queue),
        )
        return Rewrite(decision.enforced, decision=decision)
