"""One command of an Asynq script and a policy in, the command to send instead out. Pure.

Knows which part of the package decides about which kind of script. What is decided stands there: in `ending`,
`by_hand`, `replacing`, `reviving` and their like; and in `by_effect`, for calls that no text explains.

Invariants:

* What is not fully understood is not rewritten: `NotUnderstood` is raised, whatever goes wrong.
* A rewritten command is one command: the wrapper's SHA (or text) in place of the script's, ARGV changed at
  most at the score, cutoff and cap, and at most one argument more at the end.
"""

from collections.abc import Callable, Sequence

from asynq_ttl.asynq import message
from asynq_ttl.asynq.keys import done_queue, enqueue_queue, entry_of_history, queue_of_key, terminal_queue
from asynq_ttl.asynq.script_shape import Kind
from asynq_ttl.events import FailOpen
from asynq_ttl.policy.reach import Reach
from asynq_ttl.policy.rules import Policy
from asynq_ttl.rewriting.by_effect import ByEffect
from asynq_ttl.rewriting.by_hand import ByHand
from asynq_ttl.rewriting.call import Call, NotUnderstood, Rewrite
from asynq_ttl.rewriting.ending import Ending
from asynq_ttl.rewriting.registry import Script
from asynq_ttl.rewriting.replacing import Replacing
from asynq_ttl.rewriting.reviving import Reviving
from asynq_ttl.rewriting.scheduler_history import SchedulerHistory
from asynq_ttl.rewriting.without_retention import WithoutRetention
from asynq_ttl.wire.commands import Command


def _history(keys: Sequence[bytes]) -> str | None:
    return "" if len(keys) == 1 and entry_of_history(keys[0]) is not None else None


# By kind, what says the queue of KEYS that have its form; empty for the key of a history.
_FORMS: dict[Kind, Callable[[Sequence[bytes]], str | None]] = {
    Kind.DONE: done_queue,
    Kind.ENQUEUE: enqueue_queue,
    Kind.RECORD: _history,
}


class Rewriter:
    """Decides about the commands of learnt scripts by one policy.

    Args:
        policy: the policy in force.
        healed: queues for which this process has enforced some policy, so that tasks which leave a terminal state
            still lose their TTLs. Shared by all rewriters of a process, and added to by each; see `Reach`.
        trace_path: where a JSON payload has the producer's `traceparent`, for tasks without headers; empty for
            nowhere.
        hands_over: whether a sink gets due tasks before they go; see `Reach`.

    Attributes:
        policy: the policy in force.
        off: whether it says to do nothing at all.
        reach: the queues that it reaches.
        wants: the kinds of scripts in `registry.BY_QUEUE` that some rule of the policy is about.
    """

    def __init__(
        self, policy: Policy, healed: set[str], trace_path: tuple[str, ...] = (), *, hands_over: bool = False
    ) -> None:
        self.reach = Reach(policy, healed, hands_over=hands_over)
        self.policy = self.reach.policy
        self.off = self.reach.off
        ending, by_hand, reviving = Ending(self.reach, trace_path), ByHand(self.reach), Reviving(self.reach)
        self._by_effect = ByEffect(self.reach)
        said = {
            Kind.DONE: self.policy.keeps_some_done,
            Kind.ENQUEUE: self.policy.replaces_some,
            Kind.RECORD: self.policy.scheduler_history is not None,
        }
        self.wants = frozenset(kind for kind, some in said.items() if some and not self.off)
        self._by_queue: dict[Kind, Callable[[str], bool]] = {
            Kind.DONE: self.policy.keeps_done,
            Kind.ENQUEUE: self.policy.replaces,
            Kind.RECORD: lambda queue: not queue,  # a history is of no queue
        }
        self._by_kind: dict[Kind, Callable[[Call], Rewrite | None]] = {
            Kind.COMPLETE: ending.complete,
            Kind.ENQUEUE: Replacing(self.reach, trace_path).enqueue,
            Kind.DONE: WithoutRetention(self.reach).done,
            Kind.ARCHIVE: ending.archive,
            Kind.ARCHIVE_ONE: by_hand.archive,
            Kind.ARCHIVE_ALL: by_hand.archive,
            Kind.RUN_ONE: reviving.run_one,
            Kind.RUN_ALL: reviving.run_all,
            Kind.DELETE_ALL: reviving.delete_all,
            Kind.DEQUEUE: reviving.dequeue,
            Kind.DEQUEUE_TIMED: reviving.dequeue,
            Kind.JANITOR: reviving.janitor,
            Kind.RECORD: SchedulerHistory(self.reach).record,
        }

    def concerns(self, queue: str | None) -> bool:
        """Say whether commands about a queue's terminal states may have to be rewritten; see `Reach.concerns`."""
        return self.reach.concerns(queue)

    def likely_kind(self, keys: Sequence[bytes]) -> Kind | None:
        """Return which kind of script that some rule is about KEYS have the form of; None where they have none's."""
        return next((kind for kind in self.wants if _FORMS[kind](keys) is not None), None)

    def is_about(self, kind: Kind, key: bytes) -> bool:
        """Say whether a rule is, or may be, about scripts of a kind in `wants` in the queue of a key."""
        queue = queue_of_key(key)
        return queue is None or self._by_queue[kind](queue)

    def asks_for_text(self, keys: Sequence[bytes]) -> bool:
        """Say whether a call with these KEYS, of a script whose text was never seen, may have to be rewritten."""
        for kind in self.wants:
            queue = _FORMS[kind](keys)
            if queue is not None and self._by_queue[kind](queue):
                return True
        return self.concerns(terminal_queue(list(keys)))

    def rewrite(self, script: Script, command: Command, keys: int) -> Rewrite | None:
        """Decide about one call of a wrapped script.

        Args:
            script: the script that is called.
            command: the whole command.
            keys: its number of KEYS; they start at the command's fourth element.

        Returns:
            What to do; None to forward the command untouched.

        Raises:
            NotUnderstood: it has to be forwarded untouched although a rule might concern it.
        """
        if self.off:
            return None
        try:
            return self._by_kind[script.kind](Call(script, command, keys))
        except NotUnderstood:
            raise
        except message.MessageError as error:
            raise NotUnderstood(FailOpen.MESSAGE, str(error)) from None
        except Exception as error:  # whatever a policy raises, the task must move
            raise NotUnderstood(FailOpen.POLICY, f"{type(error).__name__}: {error}") from error

    def rewrite_by_effect(self, keys: Sequence[bytes]) -> Rewrite | None:
        """Decide about one call of a script that is not understood, or of one whose arguments are not.

        Args:
            keys: the call's KEYS.

        Returns:
            What to do, with the wrapper that goes by effect; None to forward the command untouched.

        Raises:
            NotUnderstood: it has to be forwarded untouched although a rule might concern it.
        """
        if self.off:
            return None
        try:
            return self._by_effect.end(keys)
        except Exception as error:  # whatever a policy raises, the task must move
            raise NotUnderstood(FailOpen.POLICY, f"{type(error).__name__}: {error}") from error
