"""Calls of scripts that are not understood, but whose KEYS say that they may end a task. Pure.

What such a script does its text does not tell; what a task is after it, its hash does. So the wrapper looks at the
tasks among KEYS, and picks one of the rules that can apply to their queue: see `lua/wrappers/effect.epilogue`.

Invariants:

* A call is rewritten only if its KEYS are, by Asynq's grammar, a task key and a terminal index of one queue.
* Nothing of the command changes but the script and one argument more: the script's own trims stay, whatever `max` says.
"""

from collections.abc import Sequence

from asynq_ttl.asynq.keys import ended_queue, index_key, queue_prefix, task_ids, text_of
from asynq_ttl.events import Action, Decision
from asynq_ttl.policy.lua_rules import LuaArguments, picked_rules
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import FOREVER_SCORE, TERMINAL
from asynq_ttl.rewriting.call import ACTIONS, Rewrite

EITHER = "ended"
"""The state that a decision names where a task may enter either of the two."""


class ByEffect:
    """Decides about tasks that end in a way that nobody can read from a text.

    Args:
        reach: the queues that the policy in force reaches.
    """

    def __init__(self, reach: Reach) -> None:
        policy = reach.policy
        self._policy = policy
        self._reach = reach
        self._enforcing = reach.enforcing and policy.rollout > 0
        self._arguments = LuaArguments(self._content)

    def end(self, keys: Sequence[bytes]) -> Rewrite | None:
        """Decide about a call by its KEYS; None to forward it untouched."""
        queue = ended_queue(keys)
        if queue is None or not self._reach.concerns(queue):
            return None
        self._reach.note_enforced(queue)
        decision = self._decision(queue, keys)
        if self._reach.heals(queue):
            # What is not enforced for some task, the wrapper finds out by its ID. It heals in any case.
            return Rewrite(enforced=True, tail=self._arguments.of(queue), decision=decision)
        return Rewrite(enforced=False, decision=decision) if decision is not None else None

    def _decision(self, queue: str, keys: Sequence[bytes]) -> Decision | None:
        """Return what to tell; None where no rule says anything about the states whose indexes are among KEYS."""
        states = [state for state in TERMINAL if index_key(queue, state.value) in keys]
        rules = [(rule, rule.says(state)) for state in states for rule in self._policy.queue_rules(queue, state)]
        if not rules:
            return None
        ids = task_ids(keys, queue)
        lone = ids[0] if len(ids) == 1 else None
        (rule, retention), *others = rules
        sole = retention if not others and not rule.types and len(states) == 1 else None
        return Decision(
            operation="end",
            script="asynq.by_effect",
            queue=queue,
            state=states[0].value if len(states) == 1 else EITHER,
            action=ACTIONS[sole.keep] if sole is not None else Action.TTL,
            enforced=self._enforcing and (lone is None or self._policy.enforces(lone)),
            task_id=text_of(lone) if lone is not None else "",
            rule=rule.name if sole is not None else "",
        )

    def _content(self, queue: str) -> dict[str, object]:
        """Return the rules that can apply to tasks of a queue that end, for the wrapper."""
        content: dict[str, object] = {
            "queue": queue_prefix(queue).decode("latin-1"),
            "share": self._policy.rollout if self._enforcing else 0,
            "grace": self._policy.grace_seconds,
            "for_ever": FOREVER_SCORE,
        }
        for state in TERMINAL:
            if self._policy.queue_rules(queue, state):
                content[state.value] = picked_rules(self._policy, queue, state)
        return content
