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
from asynq_ttl.policy.archive_limits import ArchiveLimits
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
from asynq_ttl.rewriting.tails import (
    ONLY_HEAL,
    by_clock,
    milliseconds,
    most_kept,
    own_trims,
    trim_age,
    trims,
    trims_by_number,
)
from asynq_ttl.rewriting.terms import Alike, Terms, alike

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
        self._enforcing = reach.enforcing and policy.rollout > 0
        # Whether some tasks are enforced and some are not.
        self._shares = self._enforcing and not policy.enforces_all
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
        terms = self._completed_terms(queue, task.type, verdict, own_seconds)
        return self._by_terms(call, task, terms, alike(index, task.type, own_seconds, b""), completed_at, healing)

    def _completed_terms(self, queue: _Queue, task_type: str, verdict: Verdict, own_seconds: int) -> Terms:
        """Return what completed tasks of a type get."""
        retention = verdict.retention
        lives_ms = milliseconds(retention, own_seconds, self._policy.grace_seconds)
        return Terms(
            queue.prefix,
            self._told(Kind.COMPLETE, queue, task_type, verdict, own_seconds, lives_ms),
            b"%d" % lives_ms,
            # What is kept for ever, or not at all, is so by any clock.
            timed=retention.keep is Keep.TTL or retention.keep is Keep.OWN,
            added=retention.seconds if retention.keep is Keep.TTL else None,
            score=b"%d" % FOREVER_SCORE if retention.keep is Keep.FOREVER else b"",
        )

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
        times = call.archive_times()
        now, own_seconds, own_cap = times
        healing = self._healing(call, times) if queue.lingers else None
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
        cap = most_kept(self._policy, limits, own_cap)
        terms = self._archived_terms(call, queue, task.type, verdict, own_seconds, limits, cap)
        if self._shares and (limits.outlasts(own_seconds) or not 0 <= cap <= own_cap):
            # A task outside the share gets nothing, but what is kept for longer must not go by Asynq's own trims.
            tail = b"%d %b" % (ONLY_HEAL, trims(self._policy, limits, now, own_seconds, own_cap))
            healing = Rewrite(enforced=True, tail=by_clock(call, now) + tail, argv=terms.argv)
        cap_text = call.arg(call.shape.cap_arg) if call.shape.cap_arg else b""
        return self._by_terms(call, task, terms, alike(index, task.type, own_seconds, cap_text), now, healing)

    def _healing(self, call: Call, times: tuple[int, int, int]) -> Rewrite:
        """Return what takes off the TTL that a task had as a completed one, and trims as Asynq does."""
        by_age = not self._reach.hands_over
        own = own_trims(call, *times, self._policy.grace_seconds, by_age=by_age)
        tail = by_clock(call, times[0]) + b"%d %b" % (ONLY_HEAL, own)
        return Rewrite(enforced=True, tail=tail, argv=_no_trims(call))

    def _archived_terms(  # noqa: PLR0917 - of all that they are made of
        self,
        call: Call,
        queue: _Queue,
        task_type: str,
        verdict: Verdict,
        own_seconds: int,
        limits: ArchiveLimits,
        cap: int,
    ) -> Terms:
        """Return what archived tasks of a type get; the archive keeps `cap` of them."""
        lives_ms = milliseconds(verdict.retention, own_seconds, self._policy.grace_seconds)
        age, rest = trim_age(limits, own_seconds), trims_by_number(self._policy, limits, cap)
        return Terms(
            queue.prefix,
            self._told(Kind.ARCHIVE, queue, task_type, verdict, own_seconds, lives_ms),
            b"%d -%b" % (lives_ms, rest) if age is None else b"%d " % lives_ms,
            timed=True,
            age=age,
            rest=rest,
            argv=_no_trims(call),
        )

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

    def _told(  # noqa: PLR0917 - the parts of a decision
        self, kind: Kind, queue: _Queue, task_type: str, verdict: Verdict, own_seconds: int, lives_ms: int
    ) -> Decision:
        """Return what is told of tasks of a type, but for the task itself."""
        operation, script, state = _NAMES[kind]
        return Decision(
            operation,
            script,
            queue.name,
            state,
            ACTIONS[verdict.retention.keep],
            self._enforcing,
            task_type=task_type,
            rule=verdict.rule,
            ttl_seconds=lives_ms // 1000 if lives_ms > 0 else None,
            own_seconds=own_seconds,
        )

    def _by_terms(  # noqa: PLR0917 - all that is known of a call
        self,
        call: Call,
        task: message.TaskMessage,
        terms: Terms,
        key: Alike,
        now: int,
        healing: Rewrite | None,
    ) -> Rewrite:
        """Return the rewrite that gives a task what its terms say, or `healing` where that is not enforced.

        Args:
            call, task, terms: the call, and what is known of its task.
            key: what calls with these terms are told from others by.
            now: when the task ended.
            healing: what is done for a task that is only shadowed; None for nothing.
        """
        task_id = call.task_id(terms.prefix)
        enforced = self._enforcing and self._policy.enforces(task_id)
        size = len(call.arg(call.shape.msg_arg))
        decision = terms.told(text_of(task_id), task.traceparent, task.tracestate, size, enforced=enforced)
        if healing is not None and not enforced:
            return healing._replace(decision=decision)
        tail, score = terms.fill(now, agrees=not terms.timed or call.script.clock.agrees(now))
        argv = ((call.shape.time_arg, score),) if score else terms.argv
        # Whether others come to the same: where no task is decided about by its ID, or by more than its message says.
        repeats = not (self._shares or self._trace_path or task is message.UNREADABLE)
        return Rewrite(enforced, tail, argv, decision, terms=(key, terms) if repeats else None)


def _no_trims(call: Call) -> tuple[tuple[int, bytes], ...]:
    """Return what keeps the script's own trims from finding anything, by ARGV number."""
    shape = call.shape
    return tuple(each for each in ((shape.cutoff_arg, NO_CUTOFF), (shape.cap_arg, NO_CAP)) if each[0])
