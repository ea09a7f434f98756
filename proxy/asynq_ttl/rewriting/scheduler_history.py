"""What a scheduler adds to the history of one of its entries: `scheduler_history` gives that key a TTL. Pure.

Asynq gives it none, so each restart of a scheduler that was killed leaves one behind for ever.

Invariants:

* Each time a scheduler adds to it, the time begins anew: what is added to often enough never goes.
* The key of a queue is no history, whatever the script that is called with it.
"""

from asynq_ttl.asynq.keys import entry_of_history
from asynq_ttl.events import Action, Decision
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import SCHEDULER_HISTORY
from asynq_ttl.rewriting.call import Call, Rewrite


class SchedulerHistory:
    """Decides about the histories of scheduler entries.

    Args:
        reach: the queues that the policy in force reaches; its policy and mode are of interest here.
    """

    def __init__(self, reach: Reach) -> None:
        self._policy = reach.policy
        self._enforcing = reach.enforcing

    def record(self, call: Call) -> Rewrite | None:
        """Decide about what is added to a history; None where it is none, or none gets a TTL."""
        entry_id, seconds = entry_of_history(call.key(call.shape.history_key)), self._policy.scheduler_history
        if entry_id is None or seconds is None:
            return None
        decision = Decision(
            operation="record",
            script="asynq.record",
            queue="",
            state=SCHEDULER_HISTORY,
            action=Action.TTL,
            enforced=self._enforcing and self._policy.enforces(entry_id),
            rule=SCHEDULER_HISTORY,
            ttl_seconds=seconds,
        )
        return Rewrite(decision.enforced, b"%d" % (seconds * 1000), decision=decision)
