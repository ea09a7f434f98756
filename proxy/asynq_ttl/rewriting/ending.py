"""Tasks that a worker completes or archives: the TTL that each gets by its rule. Pure.

Here the command carries the task's message, so its type is known and the sidecar picks the rule. Where the inspector
archives it is not; see `by_hand`.

Invariants:

* Where no rule says anything about a task, its command goes as it came, or only heals what an earlier policy has left.
* An archived task whose message cannot be read gets what a rule for every type says. A completed one is left to
  `by_effect`: without its Retention nobody knows when it has completed.
* A task that is only shadowed gets nothing, but neither do its script's own trims remove what a rule keeps for longer.
"""

from typing import NamedTuple

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import ARCHIVED, COMPLETED, queue_of, task_prefix, text_of
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import Decision, FailOpen
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import (
    FOREVER_SCORE,
    UNMATCHED,
    Keep,
    Retention,
    State,
    Verdict,
)
from asynq_ttl.rewriting.call import ACTIONS, Call, NotUnderstood, Rewrite
from asynq_ttl.rewriting.tails import ONLY_HEAL, by_clock, milliseconds, own_trims, trims

# With these a script's own trims find nothing. The epilogue trims instead, and removes the tasks' hashes too.
NO_CUTOFF = b"-inf"
NO_CAP = b"1000000000"

# Queues that are remembered. (Security limit: a client can name as many as it likes.)
_MEMORY_LIMIT = 10_000

# Operation, script and state, as telemetry names them.
_NAMES = {
    Kind.COMPLETE: ("complete", "asynq.complete", "completed"),
    Kind.ARCHIVE: ("archive", "asynq.archive", "archived"),
}
_BY_ASYNQ = Verdict(UNMATCHED, Retention(Keep.OWN))


class _Queue(NamedTuple):
    """A queue whose commands may have to be rewritten.

    Attributes:
        name: its name.
        prefix: what its task keys start with.
        lingers: an earlier policy may have left tasks and entries for which none is in force now.
    """

    name: str
    prefix: bytes
    lingers: bool


class Ending:
    """Decides about tasks that end.

    Args:
        reach: the queues that the policy in force reaches.
        trace_path: where a JSON payload has the producer's `traceparent`, for tasks without headers; empty for
            nowhere.
    """

    def __init__(self, reach: Reach, trace_path: tuple[str, ...]) -> None:
        policy = reach.policy
        self._policy = policy
        self._reach = reach
        self._trace_path = trace_path
        self._enforcing = reach.enforcing
        # Whether some tasks are enforced and some are not.
        self._shares = reach.enforcing and policy.rollout > 0 and not policy.enforces_all
        # By the key of an index, its queue; None for one that is not concerned.
        self._completed: dict[bytes, _Queue | None] = {}
        self._archived: dict[bytes, _Queue | None] = {}

    def complete(self, call: Call) -> Rewrite | None:
        """Decide about a worker's completion of a task that has a Retention."""
        index = call.key(call.shape.index_key)
        try:
            queue = self._completed[index]
        except KeyError:
            queue = self._first_seen(self._completed, index, COMPLETED)
        if queue is None:
            return None
        task = message.decode(call.arg(call.shape.msg_arg), self._trace_path)
        verdict = self._policy.decide(queue.name, task.type, State.COMPLETED)
        healing = Rewrite(enforced=True, tail=b"%d" % ONLY_HEAL) if queue.lingers else None
        if verdict is None:
            return healing
        own_seconds = task.retention_seconds
        completed_at = call.number(call.shape.time_arg) - own_seconds
        if completed_at < 0:
            raise NotUnderstood(FailOpen.ARGUMENTS, "the expiry is not the completion plus the retention")
        retention = verdict.retention
        argv: tuple[tuple[int, bytes], ...] = ()
        if retention.keep is Keep.FOREVER:
            argv = ((call.shape.time_arg, b"%d" % FOREVER_SCORE),)
        elif retention.keep is Keep.TTL:
            argv = ((call.shape.time_arg, b"%d" % (completed_at + retention.seconds)),)
        # What is kept for ever, or not at all, is so by any clock.
        timed = retention.keep is Keep.TTL or retention.keep is Keep.OWN
        tail = by_clock(call, completed_at) + b"%d" if timed else b"%d"
        return self._by_verdict(call, queue, task, verdict, own_seconds, tail=tail, argv=argv, healing=healing)

    def archive(self, call: Call) -> Rewrite | None:
        """Decide about a worker's archiving of a task that has failed for the last time."""
        index = call.key(call.shape.index_key)
        try:
            queue = self._archived[index]
        except KeyError:
            queue = self._first_seen(self._archived, index, ARCHIVED)
        if queue is None:
            return None
        limits = self._policy.archive_limits(queue.name)
        if limits is None and not queue.lingers:
            return None
        now, own_seconds, own_cap = call.archive_times()
        shape = call.shape
        argv = tuple(each for each in ((shape.cutoff_arg, NO_CUTOFF), (shape.cap_arg, NO_CAP)) if each[0])
        asked = by_clock(call, now)
        healing = None
        if queue.lingers:
            own = own_trims(
                call, now, own_seconds, own_cap, self._policy.grace_seconds, by_age=not self._reach.hands_over
            )
            tail = asked + b"%d %b" % (ONLY_HEAL, own)
            healing = Rewrite(enforced=True, tail=tail, argv=argv)
        if limits is None:
            return healing
        task, task_type = self._read(call)
        verdict = self._policy.decide(queue.name, task_type, State.ARCHIVED)
        if verdict is None:
            if not limits.outlasts(own_seconds):
                return healing
            # Asynq's own trims would remove what a rule of this queue keeps for longer; so they are taken
            # over, and this task gets from its key what it no longer gets from them.
            verdict = _BY_ASYNQ
        trimmed, cap = trims(self._policy, limits, now, own_seconds, own_cap)
        tail = asked + b"%d " + trimmed
        if self._shares and (limits.outlasts(own_seconds) or not 0 <= cap <= own_cap):
            # A task outside the share gets nothing, but what is kept for longer must not go by Asynq's own trims.
            healing = Rewrite(enforced=True, tail=tail % ONLY_HEAL, argv=argv)
        return self._by_verdict(call, queue, task, verdict, own_seconds, tail=tail, argv=argv, healing=healing)

    def _read(self, call: Call) -> tuple[message.TaskMessage, str | None]:
        """Return the message that a call carries, and the task's type; None for one that cannot be read."""
        try:
            task = message.decode(call.arg(call.shape.msg_arg), self._trace_path)
        except message.MessageError:
            return message.UNREADABLE, None
        return task, task.type

    def _first_seen(self, known: dict[bytes, _Queue | None], index: bytes, suffix: bytes) -> _Queue | None:
        """Return the queue of an index that is not remembered; None where it is not concerned.

        Args:
            known: what is remembered of the indexes with this suffix.
            index: the key of the index.
            suffix: what it has to end with.
        """
        name = queue_of(index, suffix)
        found = None
        if name is not None and self._reach.concerns(name):
            found = _Queue(name, task_prefix(name), self._reach.lingers(name))
            self._reach.note_enforced(name)
        if len(known) < _MEMORY_LIMIT:
            known[index] = found
        return found

    def _by_verdict(
        self,
        call: Call,
        queue: _Queue,
        task: message.TaskMessage,
        verdict: Verdict,
        own_seconds: int,
        *,
        tail: bytes,
        argv: tuple[tuple[int, bytes], ...],
        healing: Rewrite | None,
    ) -> Rewrite:
        """Return the rewrite that gives a task what its verdict says, or `healing` where that is not enforced.

        Args:
            call, queue, task, verdict: the call, and what is known of its task.
            own_seconds: for how long Asynq itself would keep the task.
            tail: the wrapper's argument, with `%d` for milliseconds to live.
            argv: replacements by ARGV number.
            healing: what is done for a task that is only shadowed; None for nothing.
        """
        lives_ms = milliseconds(verdict.retention, own_seconds, self._policy.grace_seconds)
        task_id = call.task_id(queue.prefix)
        enforced = self._enforcing and self._policy.enforces(task_id)
        times = lives_ms // 1000 if lives_ms > 0 else None, own_seconds
        decision = _decision(call, queue.name, task, verdict, text_of(task_id), times, enforced=enforced)
        if healing is not None and not enforced:
            return healing._replace(decision=decision)
        return Rewrite(enforced, tail % lives_ms, argv, decision)


def _decision(  # noqa: PLR0917 - one call, of a decision's own parts
    call: Call,
    queue: str,
    task: message.TaskMessage,
    verdict: Verdict,
    task_id: str,
    times: tuple[int | None, int],
    *,
    enforced: bool,
) -> Decision:
    """Return what to tell about a task; `times` are the seconds of its TTL and of Asynq's own retention."""
    operation, script, state = _NAMES[call.script.kind]
    return Decision(
        operation,
        script,
        queue,
        state,
        ACTIONS[verdict.retention.keep],
        enforced,
        task_id,
        task.type,
        verdict.rule,
        times[0],
        task.traceparent,
        task.tracestate,
        len(call.arg(call.shape.msg_arg)),
        times[1],
    )
