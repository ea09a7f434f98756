"""Tasks that are enqueued with the ID of one that has ended, and take its place where a rule says so. Pure.

What is at the ID only Redis sees, so the wrapper gets the rules of the queue, and picks one by the state and the type
of the task that it finds: see `lua/wrappers/enqueue.prologue`.

Invariants:

* In a queue in which no rule replaces anything the command goes as it came.
* Only an ended task is replaced, and only where the script then adds its own; in every other case it does what it does.
"""

from asynq_ttl.asynq.keys import doubtful, queue_of_task, task_prefix
from asynq_ttl.policy.lua_rules import lua_argument, replacing_rules
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import State
from asynq_ttl.rewriting.call import Call, Rewrite

# Queues that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000


class Replacing:
    """Decides about tasks that are enqueued.

    Args:
        reach: the queues that the policy in force reaches.
    """

    def __init__(self, reach: Reach) -> None:
        self._policy = reach.policy
        self._enforcing = reach.enforcing
        self._arguments: dict[str, bytes] = {}

    def enqueue(self, call: Call) -> Rewrite | None:
        """Decide about a client's adding of a task."""
        key = call.key(call.shape.task_key)
        queue = queue_of_task(key)
        if queue is None or doubtful(key) or not self._enforcing or not self._policy.replaces(queue):
            return None
        if not self._policy.enforces(key[len(task_prefix(queue)) :]):
            return None
        return Rewrite(enforced=True, tail=self._argument(queue))

    def _argument(self, queue: str) -> bytes:
        """Return which ended tasks of a queue are replaced, as JSON for the wrapper."""
        known = self._arguments.get(queue)
        if known is not None:
            return known
        content: dict[str, object] = {"id_at": len(task_prefix(queue)) + 1}
        content |= {state.value: replacing_rules(self._policy, queue, state) for state in State}
        if len(self._arguments) >= _MEMORY_LIMIT:
            self._arguments.clear()
        self._arguments[queue] = lua_argument(content)
        return self._arguments[queue]
