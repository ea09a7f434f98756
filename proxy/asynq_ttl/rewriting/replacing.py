"""Tasks that are enqueued with the ID of one that has ended, and take its place where a rule says so. Pure.

What is at the ID only Redis sees, so the wrapper gets the rules of the queue, and picks one by the state and the type
of the task that it finds: see `lua/shared/replaceable` and `lua/wrappers/enqueue`. Its reply says which one it was: a
mark that the session takes out again.

Invariants:

* In a queue in which no rule replaces anything the command goes as it came.
* Only an ended task is replaced, and only where the script then adds its own; in every other case it does what it does.
* Where a sink gets tasks before they go, none is replaced: that one would go without it.
"""

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import doubtful, queue_of_task, queue_prefix, task_prefix, text_of
from asynq_ttl.events import FIRST_MARK, Action, Decision, Enqueue
from asynq_ttl.policy.lua_rules import LuaArguments, replacing_rules
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import State
from asynq_ttl.rewriting.call import Call, Rewrite

# Queues that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000


class Replacing:
    """Decides about tasks that are enqueued.

    Args:
        reach: the queues that the policy in force reaches.
        trace_path: where a JSON payload has the producer's `traceparent`, for tasks without headers; empty for
            nowhere.
    """

    def __init__(self, reach: Reach, trace_path: tuple[str, ...]) -> None:
        self._policy = reach.policy
        self._reach = reach
        self._trace_path = trace_path
        self._enforcing = reach.enforcing and not reach.hands_over
        self._arguments = LuaArguments(self._content)
        self._choices: dict[str, tuple[tuple[str, str], ...]] = {}

    def enqueue(self, call: Call) -> Rewrite | None:
        """Decide about a client's adding of a task."""
        key = call.key(call.shape.task_key)
        queue = queue_of_task(key)
        if queue is None or doubtful(key) or not self._policy.replaces(queue):
            return None
        self._reach.note_enforced(queue)
        task_id = key[len(task_prefix(queue)) :]
        enforced = self._enforcing and self._policy.enforces(task_id)
        argument = self._arguments.of(queue)
        lock_key = call.key(call.shape.lock_key) if call.shape.lock_key else b""
        decision = self._decision(call, queue, text_of(task_id), enforced=enforced)
        enqueue = Enqueue(decision, self._choices_of(queue), key, lock_key, argument)
        return Rewrite(enforced, argument, enqueue=enqueue)

    def _decision(self, call: Call, queue: str, task_id: str, *, enforced: bool) -> Decision:
        try:
            task = message.decode(call.arg(call.shape.msg_arg), self._trace_path)
        except message.MessageError:
            task = message.UNREADABLE
        return Decision(
            operation="replace",
            script="asynq.enqueue",
            queue=queue,
            state="",
            action=Action.REPLACED,
            enforced=enforced,
            task_id=task_id,
            task_type=task.type,
            traceparent=task.traceparent,
            tracestate=task.tracestate,
        )

    def _choices_of(self, queue: str) -> tuple[tuple[str, str], ...]:
        """Return what each mark stands for in a queue: the state that the task was in, and the name of the rule."""
        known = self._choices.get(queue)
        if known is None:
            if len(self._choices) >= _MEMORY_LIMIT:
                self._choices.clear()
            known = self._choices[queue] = tuple(
                ("completed" if state is State.DONE else state.value, rule.name)
                for state in State
                for rule in self._policy.queue_rules(queue, state)
            )
        return known

    def _content(self, queue: str) -> dict[str, object]:
        """Return which ended tasks of a queue are replaced, for the wrapper."""
        content: dict[str, object] = {
            "queue": queue_prefix(queue).decode("latin-1"),
            "id_at": len(task_prefix(queue)) + 1,
        }
        mark = FIRST_MARK
        for state in State:
            content[state.value] = replacing_rules(self._policy, queue, state, mark)
            mark += len(self._policy.queue_rules(queue, state))
        return content
