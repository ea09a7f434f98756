"""Tasks that the inspector archives. Pure.

The command carries no message, so no task's type is known here. Where one rule decides about all tasks, the wrapper is
told what it comes to, as for a worker's archiving. Otherwise it gets the rules that can apply to the queue, as JSON,
and picks one for each task inside Redis: see `lua/wrappers/settle.prologue`.
"""

from asynq_ttl.asynq.keys import ARCHIVED, queue_of, task_prefix, text_of
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Action, Decision
from asynq_ttl.policy.archive_limits import ArchiveLimits
from asynq_ttl.policy.lua_rules import LuaArguments, picked_rules
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import State
from asynq_ttl.rewriting.call import ACTIONS, Call, Rewrite
from asynq_ttl.rewriting.tails import FOREVER, by_clock, milliseconds, own_trims, trims


class ByHand:
    """Decides about tasks that are archived by hand, one by one or all of a state.

    Args:
        reach: the queues that the policy in force reaches.
    """

    def __init__(self, reach: Reach) -> None:
        policy = reach.policy
        self._policy = policy
        self._reach = reach
        self._enforcing = reach.enforcing and policy.rollout > 0
        # Whether some tasks are enforced and some are not.
        self._shares = self._enforcing and not policy.enforces_all
        self._arguments = LuaArguments(self._content)

    def archive(self, call: Call) -> Rewrite | None:
        """Decide about an inspector's archiving of one task, or of all of a source."""
        queue = queue_of(call.key(call.shape.index_key), ARCHIVED)
        if queue is None or not self._reach.concerns(queue):
            return None
        self._reach.note_enforced(queue)
        limits = self._policy.archive_limits(queue)
        lone = call.script.kind is Kind.ARCHIVE_ONE
        # Only a task that is archived by itself can come from `completed`, and bring a TTL with it.
        heals = lone and self._reach.heals(queue)
        if limits is None and not heals:
            return None
        times = call.archive_times()
        task_id = b""
        enforced = self._enforcing
        if lone:
            task_id = call.task_id(task_prefix(queue))
            enforced = enforced and self._policy.enforces(task_id)
        else:
            call.check_prefix(queue)
        if limits is None:
            return Rewrite(enforced=True, tail=self._healing(call, times))
        decision = self._decision(call, queue, text_of(task_id), times[0], enforced=enforced)
        if heals and not enforced:
            # By the rules, a task outside the share gets no TTL either, but nothing that they keep is trimmed with it.
            tail = self._outside(call, limits, times) if self._shares else self._healing(call, times)
            return Rewrite(enforced=True, tail=tail, decision=decision)
        return Rewrite(enforced, self._tail(call, queue, limits, times), (), decision)

    def _healing(self, call: Call, times: tuple[int, int, int]) -> bytes:
        """Return what takes off the TTL that a task had as a completed one, and trims as Asynq does."""
        by_age = not self._reach.hands_over
        own = own_trims(call, *times, self._policy.grace_seconds, by_age=by_age)
        return by_clock(call, times[0]) + b"%d %b" % (FOREVER, own)

    def _outside(self, call: Call, limits: ArchiveLimits, times: tuple[int, int, int]) -> bytes:
        """Return the same for a task outside the share of the rollout, but nothing that the rules keep is trimmed."""
        return by_clock(call, times[0]) + b"%d %b" % (FOREVER, trims(self._policy, limits, *times))

    def _tail(self, call: Call, queue: str, limits: ArchiveLimits, times: tuple[int, int, int]) -> bytes:
        """Return what gives tasks what their rules say; `times` are as of `Call.archive_times`."""
        asked, trimmed = by_clock(call, times[0]), trims(self._policy, limits, *times)
        first, own_seconds = self._policy.queue_rules(queue, State.ARCHIVED)[0], times[1]
        if first.archived is None or first.types or (self._shares and call.script.kind is Kind.ARCHIVE_ALL):
            return asked + b"* %b %d %b" % (trimmed, own_seconds, self._arguments.of(queue))
        lives_ms = milliseconds(first.archived, own_seconds, self._policy.grace_seconds)
        return asked + b"%d %b" % (lives_ms, trimmed)

    def _decision(self, call: Call, queue: str, task_id: str, died_at: int, *, enforced: bool) -> Decision:
        """Return what to tell; `task_id` is empty for all tasks of a source."""
        rules = self._policy.queue_rules(queue, State.ARCHIVED)
        sole = rules[0] if len(rules) == 1 and not rules[0].types else None
        return Decision(
            operation="archive",
            script=f"asynq.{call.script.kind.value}",
            queue=queue,
            state="archived",
            action=ACTIONS[sole.archived.keep] if sole and sole.archived else Action.TTL,
            enforced=enforced,
            task_id=task_id,
            rule=sole.name if sole else "",
            died_at=None if task_id else died_at,
        )

    def _content(self, queue: str) -> dict[str, object]:
        """Return the rules that can apply to a queue's archive, for the wrapper."""
        return {
            **picked_rules(self._policy, queue, State.ARCHIVED),
            "grace": self._policy.grace_seconds,
            "share": self._policy.rollout,
        }
