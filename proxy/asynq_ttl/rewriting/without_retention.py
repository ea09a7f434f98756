"""Tasks that succeed without a Retention, which Asynq deletes at once: `done` keeps them as completed ones. Pure.

The command carries no message, so the wrapper gets the rules that can apply to the queue, and picks one by the type in
the message that the task's hash has: see `lua/wrappers/done.epilogue`.

Invariants:

* In a queue in which no rule keeps such tasks the command goes as it came.
* What is kept is all of what the script has deleted, and nothing is kept that the script did not delete.
"""

from asynq_ttl.asynq.keys import ACTIVE, queue_of, queue_prefix, task_prefix, text_of
from asynq_ttl.events import Action, Decision
from asynq_ttl.policy.lua_rules import LuaArguments, picked_rules
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import FOREVER_RETENTION, FOREVER_SCORE, State
from asynq_ttl.rewriting.call import ACTIONS, Call, Rewrite


class WithoutRetention:
    """Decides about tasks that a worker is done with and that have no Retention.

    Args:
        reach: the queues that the policy in force reaches.
    """

    def __init__(self, reach: Reach) -> None:
        self._policy = reach.policy
        self._reach = reach
        self._arguments = LuaArguments(self._content)

    def done(self, call: Call) -> Rewrite | None:
        """Decide about a worker's deletion of a task that has succeeded."""
        queue = queue_of(call.key(call.shape.active_key), ACTIVE)
        if queue is None or not self._policy.keeps_done(queue) or not _counts_success(call, queue):
            return None
        self._reach.note_enforced(queue)
        task_id = call.task_id(task_prefix(queue))
        enforced = self._reach.enforcing and self._policy.enforces(task_id)
        return Rewrite(
            enforced, self._arguments.of(queue), (), self._decision(queue, text_of(task_id), enforced=enforced)
        )

    def _decision(self, queue: str, task_id: str, *, enforced: bool) -> Decision:
        first, *others = self._policy.queue_rules(queue, State.DONE)
        sole = first.done if not others and not first.types else None
        return Decision(
            operation="complete",
            script="asynq.done",
            queue=queue,
            state="completed",
            action=ACTIONS[sole.keep] if sole is not None else Action.TTL,
            enforced=enforced,
            task_id=task_id,
            rule=first.name if sole is not None else "",
            ttl_seconds=sole.seconds + self._policy.grace_seconds if sole is not None and sole.seconds else None,
        )

    def _content(self, queue: str) -> dict[str, object]:
        """Return the rules that can apply to such tasks of a queue, for the wrapper."""
        return {
            **picked_rules(self._policy, queue, State.DONE),
            "grace": self._policy.grace_seconds,
            "for_ever": FOREVER_SCORE,
            "longest": FOREVER_RETENTION,
        }


def _counts_success(call: Call, queue: str) -> bool:
    """Say whether a call counts the task as processed, and not as failed: what is thrown away has not succeeded."""
    prefix = queue_prefix(queue)
    return call.has_key(prefix + b"processed") and not call.has_key(prefix + b"failed")
